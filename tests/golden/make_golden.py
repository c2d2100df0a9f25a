#!/usr/bin/env python3
"""Golden values of tiny models, made with PyTorch, transformers and PEFT.

    python tests/golden/make_golden.py [MODEL...] [shapes]

Writes tests/golden/<model>/: the model as transformers saves it, adapter/ as PEFT saves it, expected.safetensors and
expected.json. Every expected value is computed in float64 (weights, rotary table, norms, attention, loss, AdamW) and stored as
F32, losses with 17 digits. The float64 patches are verified against the unpatched float32 model before anything is written.

expected.safetensors
  logits            (logit_rows, V)           with the adapter
  logits_base       (logit_rows, V)           without
  logits_merged     (logit_rows, V)           PEFT's merge_and_unload in float32
  merged.<name>     layer 0's q_proj and down_proj after that merge
  inv_freq          (Q/2)                     transformers' own, float32
  grad.<name>       d loss / d <name>         the adapter's names as in adapter_model.safetensors
  final.<name>      after ten AdamW steps
  batch1.*, batch2.*  logits and grad.<name> of two more batches
expected.json
  tokens, doc_lengths, weights   documents one after another; weights[i] belongs to predicting tokens[i], a document's first is 0
  logit_rows                     the tokens whose logits are stored
  loss, nll                      loss = sum w nll / sum w; nll of every token with a weight
  batches                        tokens, weights and loss of the two more batches
  steps                          loss (before the update) and gradient norm (before clipping) of ten steps
  optimizer                      what torch.optim.AdamW was given, and max_norm for clip_grad_norm_
  error                          of PyTorch in other precisions against float64: "f32" and "bf16" (base, adapter and gradients)
    logits, loss                 max|d| / max|ref|, |d| / ref
    grad.<name>                  |d| / |ref|, Euclidean
    grad_max                     max|d| / max|ref| of the worst gradient
    grad_l2                      root mean square of |d| / |ref| over all gradients and batches; the least of the equivalent
                                 computations
    final.<name>                 (f32) max|d| / max|ref| after ten steps
  generate                       greedy ids (float32) with and without the adapter; margin: least gap of the two best logits

PyTorch's own error. Rounding to bf16 is noise: one program's error in one sample, or the largest error of a small matrix, says as
much about luck as about the computation. Over twelve batches PyTorch's own largest error of one matrix varies by a factor of 3,
its Euclidean error by 1.5. So gradients are compared in the Euclidean norm, and each error is the worst of 48: twelve batches, of
which three are stored, each with sdpa and with eager attention, documents one by one and packed into one row with a block mask.
grad_l2, which averages over every gradient, has little luck left and carries the strict comparison.
tiny-llama-q64 and tiny-qwen3-q128 have the head sizes of real models, which the CUDA backend gives to its tensor cores in bf16, and
documents of more than one and two tiles of 64 tokens; logits are stored around the edges of tiles and documents.

AdamW's epsilon is 1e-3: with 1e-8 an element whose gradient is near zero moves by a whole learning rate in the direction of its
rounding error, and no two float32 programs agree on it. (1e-2 for the two with large heads, whose gradients spread over more
elements. They have no merged values: others have.)
"""

import itertools
import json
import math
import shutil
import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).resolve().parent
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DOCS = [7, 13, 21]  # where a model names no others; logits are then those of the first
BATCHES, STORED = 12, 3
COMMON = dict(attn_implementation="sdpa", initializer_range=0.02, attention_dropout=0.0, use_cache=True)

MODELS = {
    "tiny-llama": dict(
        seed=1, cls=LlamaForCausalLM, dtype=torch.float32, shard="150KB", rank=4, rslora=False, weight_decay=0.1, eos=[2],
        config=LlamaConfig(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                           num_key_value_heads=2, vocab_size=300, max_position_embeddings=256, rms_norm_eps=1e-5,
                           rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=False,
                           bos_token_id=1, eos_token_id=2, **COMMON)),
    "tiny-llama3": dict(
        seed=2, cls=LlamaForCausalLM, dtype=torch.bfloat16, shard="50GB", rank=5, rslora=True, weight_decay=0.0, eos=[2, 5],
        config=LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                           num_key_value_heads=1, vocab_size=96, max_position_embeddings=512, rms_norm_eps=1e-5,
                           rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                                            "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
                           tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, **COMMON)),
    "tiny-qwen2": dict(
        seed=3, cls=Qwen2ForCausalLM, dtype=torch.bfloat16, shard="50GB", rank=4, rslora=True, weight_decay=0.0, eos=[3, 4],
        config=Qwen2Config(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=3,
                           num_key_value_heads=1, vocab_size=151, max_position_embeddings=256, rms_norm_eps=1e-6,
                           rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=False,
                           use_sliding_window=False, bos_token_id=None, eos_token_id=3, **COMMON)),
    "tiny-qwen3": dict(
        seed=4, cls=Qwen3ForCausalLM, dtype=torch.bfloat16, shard="50GB", rank=5, rslora=False, weight_decay=0.1, eos=[2],
        config=Qwen3Config(hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4, head_dim=32,
                           num_key_value_heads=2, vocab_size=200, max_position_embeddings=256, rms_norm_eps=1e-6,
                           rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=True,
                           attention_bias=False, use_sliding_window=False, bos_token_id=None, eos_token_id=2, **COMMON)),
    "tiny-llama-q64": dict(
        seed=5, cls=LlamaForCausalLM, dtype=torch.bfloat16, shard="50GB", rank=2, rslora=False, weight_decay=0.1, eos=[2],
        eps=1e-2, merged=False, docs=[130, 3, 66], rows=[0, 63, 64, 127, 128, 129, 130, 132, 133, 198],
        config=LlamaConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=6, head_dim=64,
                           num_key_value_heads=2, vocab_size=64, max_position_embeddings=256, rms_norm_eps=1e-5,
                           rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=False,
                           bos_token_id=1, eos_token_id=2, **COMMON)),
    "tiny-qwen3-q128": dict(
        seed=6, cls=Qwen3ForCausalLM, dtype=torch.bfloat16, shard="50GB", rank=2, rslora=False, weight_decay=0.0, eos=[2],
        eps=1e-2, merged=False, docs=[77, 5, 131], rows=[0, 63, 64, 76, 77, 81, 82, 145, 146, 209, 210, 212],
        config=Qwen3Config(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, head_dim=128,
                           num_key_value_heads=2, vocab_size=64, max_position_embeddings=256, rms_norm_eps=1e-6,
                           rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=True,
                           attention_bias=False, use_sliding_window=False, bos_token_id=None, eos_token_id=2, **COMMON)),
}
for _spec in MODELS.values():
    _spec.setdefault("docs", DOCS)
    _spec.setdefault("rows", list(range(_spec["docs"][0])))


def fill(model, seed):
    """Random weights that BF16 holds exactly; activations stay near 1, norms and biases do something."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            r = torch.randn(p.shape, generator=g)
            if name.endswith("norm.weight") or "layernorm" in name:
                v = 1 + 0.25 * r
            elif p.ndim == 1:
                v = 0.3 * r
            elif "embed_tokens" in name:
                v = (0.2 if model.config.tie_word_embeddings else 1.0) * r
            else:
                v = r * 1.2 / math.sqrt(p.shape[1])
            p.copy_(v.bfloat16().float())


def rope_f64(config):
    """Inverse frequencies in float64, by Meta's formula."""
    p = config.rope_parameters
    q = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    f = p["rope_theta"] ** (-torch.arange(0, q, 2, dtype=torch.float64) / q)
    if p["rope_type"] == "default":
        return f
    low, high, old = p["low_freq_factor"], p["high_freq_factor"], p["original_max_position_embeddings"]
    wave = 2 * math.pi / f
    smooth = (old / wave - low) / (high - low)
    mid = (1 - smooth) * f / p["factor"] + smooth * f
    return torch.where(wave < old / high, f, torch.where(wave > old / low, f / p["factor"], mid))


def patch_f64(model):
    """Norms and rotary of a transformers model in the dtype of their input instead of float32."""
    for m in model.modules():
        kind = type(m).__name__
        if kind.endswith("RMSNorm"):
            def norm(x, m=m):
                return m.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon))
            m.forward = norm
        elif kind.endswith("RotaryEmbedding"):
            freq = rope_f64(m.config)
            def rotary(x, position_ids, freq=freq):
                a = position_ids[..., None].double() * freq
                a = torch.cat((a, a), dim=-1)
                return a.cos().to(x.dtype), a.sin().to(x.dtype)
            m.forward = rotary
    return model


def batch(spec, config, index):
    g = torch.Generator().manual_seed(100 + spec["seed"] + 1000 * index)
    docs = spec["docs"]
    tokens = torch.randint(6, config.vocab_size, (sum(docs),), generator=g)
    weights = (torch.rand(sum(docs), generator=g) < 0.7).double()
    at = 0
    for n in docs:
        weights[at] = 0
        weights[at + n - 1] = 1
        at += n
    return tokens, weights


def forward(model, tokens, docs):
    """Logits of each document alone: documents never see one another."""
    out, at = [], 0
    for n in docs:
        out.append(model(input_ids=tokens[None, at:at + n], use_cache=False).logits[0])
        at += n
    return torch.cat(out)


def forward_packed(model, tokens, docs):
    """The same, in one row: positions restart and a mask keeps the documents apart."""
    owner = torch.repeat_interleave(torch.arange(len(docs)), torch.tensor(docs))
    positions = torch.cat([torch.arange(n) for n in docs])
    seen = (owner[:, None] == owner[None]).tril()
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    return model(input_ids=tokens[None], position_ids=positions[None], attention_mask=mask[None, None], use_cache=False).logits[0]


def loss_of(logits, tokens, weights):
    """(loss, nll per token); the logits of a position predict the next token, and a document's first token weighs nothing."""
    nll = torch.zeros(len(tokens), dtype=logits.dtype)
    logp = torch.log_softmax(logits[:-1], -1)
    nll[1:] = -logp.gather(1, tokens[1:, None])[:, 0]
    w = weights.to(logits.dtype)
    return (w * nll).sum() / w.sum(), nll * (w != 0)


def make_lora(base, spec, adapter_folder=None):
    model = peft.get_peft_model(base, peft.LoraConfig(
        r=spec["rank"], lora_alpha=spec.get("alpha", 8), lora_dropout=0.0, bias="none", target_modules=TARGETS,
        use_rslora=spec["rslora"], task_type="CAUSAL_LM"), autocast_adapter_dtype=False)
    if adapter_folder is not None:
        peft.set_peft_model_state_dict(model, load_file(adapter_folder / "adapter_model.safetensors"))
        return model
    g = torch.Generator().manual_seed(200 + spec["seed"])
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_A" in name:
                p.copy_((torch.rand(p.shape, generator=g) * 2 - 1) / math.sqrt(p.shape[1]))
            elif "lora_B" in name:
                p.copy_(torch.randn(p.shape, generator=g) * 0.05)
    return model


def lora_params(model):
    return {n.replace(".default", ""): p for n, p in sorted(model.named_parameters()) if "lora_" in n}


def versions():
    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def rel(got, ref):
    return float((got.double() - ref.double()).abs().max() / ref.double().abs().max())


class Case:
    """One model with its adapter in one precision."""

    def __init__(self, spec, folder, dtype, attention="sdpa", forward=forward):
        base = spec["cls"].from_pretrained(folder, dtype=dtype, attn_implementation=attention)
        self.model = make_lora(base, spec, folder / "adapter")
        self.model.to(dtype)
        if dtype == torch.float64:
            patch_f64(self.model)
        self.params = lora_params(self.model)
        self.forward, self.docs, self.rows = forward, spec["docs"], spec["rows"]

    def run(self, tokens, weights):
        logits = self.forward(self.model, tokens, self.docs)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        loss, nll = loss_of(wide, tokens, weights)
        for p in self.params.values():
            p.grad = None
        loss.backward()
        return logits.detach(), loss.detach(), nll.detach()

    def train(self, tokens, weights, opt):
        adam = torch.optim.AdamW(self.params.values(), lr=opt["lr"], betas=(opt["beta1"], opt["beta2"]), eps=opt["eps"],
                                 weight_decay=opt["weight_decay"], foreach=False)
        steps = []
        for _ in range(opt["steps"]):
            _, loss, _ = self.run(tokens, weights)
            norm = torch.nn.utils.clip_grad_norm_(self.params.values(), opt["max_norm"])
            adam.step()
            steps.append({"loss": float(loss), "grad_norm": float(norm)})
        return steps


def result(case, tokens, weights):
    logits, loss, nll = case.run(tokens, weights)
    return {"logits": logits, "loss": loss, "nll": nll, "grad": {n: p.grad.clone() for n, p in case.params.items()}}


def compare(case, batches, wanted):
    """Errors of one computation over all batches."""
    each, squares = [], []
    for (tokens, weights), want in zip(batches, wanted):
        got = result(case, tokens, weights)
        size = {n: float((g.double() - want["grad"][n]).norm() / want["grad"][n].norm()) for n, g in got["grad"].items()}
        each.append({"logits": rel(got["logits"][case.rows], want["logits"][case.rows]),
                     "loss": abs(float(got["loss"] - want["loss"])) / float(want["loss"]), "grad": size,
                     "grad_max": max(rel(g, want["grad"][n]) for n, g in got["grad"].items())})
        squares += [x * x for x in size.values()]
    return dict(worst(each), grad_l2=math.sqrt(sum(squares) / len(squares)))


def worst(errors):
    out = {key: max(e[key] for e in errors) for key in ("logits", "loss", "grad_max")}
    out["grad"] = {n: max(e["grad"][n] for e in errors) for n in errors[0]["grad"]}
    if "grad_l2" in errors[0]:
        out["grad_l2"] = min(e["grad_l2"] for e in errors)
    return out


def generate(model, prompt, n):
    model.eval()
    out = model.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), max_new_tokens=n, do_sample=False,
                         pad_token_id=0, output_logits=True, return_dict_in_generate=True)
    top = torch.stack([l[0].float().topk(2).values for l in out.logits])
    return {"ids": out.sequences[0, len(prompt):].tolist(), "margin": float((top[:, 0] - top[:, 1]).min())}


def make(name):
    spec = dict(MODELS[name], name=name)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    base = spec["cls"](spec["config"])
    fill(base, spec["seed"])
    eos = spec["eos"] if len(spec["eos"]) > 1 else spec["eos"][0]
    base.generation_config = transformers.GenerationConfig(bos_token_id=spec["config"].bos_token_id, eos_token_id=eos)
    base.to(spec["dtype"]).save_pretrained(folder, max_shard_size=spec["shard"])
    lora = make_lora(base.float(), spec)
    lora.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    adapter = folder / "adapter" / "adapter_config.json"
    written = json.loads(adapter.read_text())  # PEFT writes the set of targets in any order, and a path as the base's name
    adapter.write_text(json.dumps(dict(written, base_model_name_or_path=name, target_modules=TARGETS), indent=2) + "\n")

    batches = [batch(spec, spec["config"], i) for i in range(BATCHES)]
    tokens, weights = batches[0]
    ref = Case(spec, folder, torch.float64)
    wanted = [result(ref, *b) for b in batches]
    docs, rows = spec["docs"], spec["rows"]
    out, more = {"inv_freq": None}, []
    for i, ((t, w), want) in enumerate(zip(batches, wanted)):
        if i == STORED:
            break
        at = f"batch{i}." if i else ""
        out[at + "logits"] = want["logits"][rows]
        out.update({at + "grad." + n: g for n, g in want["grad"].items()})
        if i:
            more.append({"tokens": t.tolist(), "weights": w.int().tolist(), "loss": float(want["loss"])})
    with torch.no_grad(), ref.model.disable_adapter():
        out["logits_base"] = forward(ref.model, tokens, docs)[rows]

    error = {kind: worst([compare(Case(spec, folder, dtype, *way), batches, wanted)
                          for way in itertools.product(["sdpa", "eager"], [forward, forward_packed])])
             for kind, dtype in {"f32": torch.float32, "bf16": torch.bfloat16}.items()}
    assert max(error["f32"]["logits"], error["f32"]["grad_max"]) < 1e-5, error["f32"]

    opt = {"lr": 1e-2, "beta1": 0.9, "beta2": 0.999, "eps": spec.get("eps", 1e-3), "weight_decay": spec["weight_decay"], "max_norm": 1.0,
           "steps": 10}
    steps = ref.train(tokens, weights, opt)
    single = Case(spec, folder, torch.float32)
    single.train(tokens, weights, opt)
    error["f32"]["final"] = {n: rel(single.params[n].data, p.data) for n, p in ref.params.items()}

    plain = spec["cls"].from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    out["inv_freq"] = plain.model.rotary_emb.inv_freq
    gen = {"prompt": tokens[:5].tolist(), "base": generate(plain, tokens[:5], 12)}
    adapted = make_lora(plain, spec, folder / "adapter")
    gen["adapter"] = generate(adapted, tokens[:5], 12)
    if spec.get("merged", True):
        merged = adapted.merge_and_unload()
        with torch.no_grad():
            out["logits_merged"] = forward(merged, tokens, docs)[rows]
        state = merged.state_dict()
        for n in ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"):
            out["merged." + n] = state[n]
    out.update({"final." + n: p.data for n, p in ref.params.items()})
    save_file({n: t.detach().float().contiguous() for n, t in out.items()}, folder / "expected.safetensors",
              metadata={"format": "pt"})

    (folder / "expected.json").write_text(json.dumps({
        "made_with": versions(),
        "rank": spec["rank"], "alpha": 8, "rslora": spec["rslora"], "tokens": tokens.tolist(), "doc_lengths": docs,
        "logit_rows": rows, "weights": weights.int().tolist(), "loss": float(wanted[0]["loss"]), "nll": wanted[0]["nll"].tolist(),
        "batches": more, "optimizer": opt, "steps": steps, "error": error, "generate": gen,
    }, indent=1) + "\n")
    for f in folder.rglob("*.safetensors"):
        f.chmod(0o644)
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: loss {steps[0]['loss']:.6f} -> {steps[-1]['loss']:.6f}, "
          f"norms {steps[0]['grad_norm']:.3f}..{steps[-1]['grad_norm']:.3f}, margins {gen['base']['margin']:.3f} "
          f"{gen['adapter']['margin']:.3f}, {len(gen['base']['ids'])} {len(gen['adapter']['ids'])} tokens, {size} bytes")
    for kind, e in error.items():
        print(f"  {kind}: logits {e['logits']:.1e}, loss {e['loss']:.1e}, "
              f"worst gradient {max(e['grad'].values()):.1e} {e['grad_max']:.1e}, "
              f"l2 {e['grad_l2']:.2e}"
              + (f", final {max(e['final'].values()):.1e}" if "final" in e else ""))


def make_shapes():
    """shapes/inv_freq.json: inverse frequencies of the public configurations in shapes/<name>/config.json, by transformers."""
    out = {}
    for path in sorted((HERE / "shapes").glob("*/config.json")):
        config = transformers.AutoConfig.from_pretrained(path.parent)
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
        out[path.parent.name] = [float(f"{x:.9g}") for x in rotary.inv_freq.tolist()]
    (HERE / "shapes" / "inv_freq.json").write_text(json.dumps(out, indent=None) + "\n")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="The PEFT config's `base_model_name_or_path` was renamed")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for model_name in sys.argv[1:] or [*MODELS, "shapes"]:
        if model_name == "shapes":
            make_shapes()
        else:
            make(model_name)
