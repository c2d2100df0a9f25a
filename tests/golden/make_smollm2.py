#!/usr/bin/env python3
"""Golden values of SmolLM2-135M-Instruct, read from its GGUF file and run by transformers and PEFT.

    python tests/golden/make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf     (also needs the package gguf)

Writes tests/golden/smollm2/expected.json and expected.safetensors. The reference runs in float64 on the dequantized weights.
The adapter (rank 8, alpha 16, all seven modules, nothing stored) follows a formula.
Module t = 7 * layer + index in q k v o gate up down:
  A[r][i] = sin(1 + t + 0.731 * (r * in + i)) / sqrt(in)       computed in double, rounded to float32
  B[o][r] = 0.01 * sin(2 + t + 0.577 * (o * 8 + r))

expected.safetensors
  logits_top              (positions, 16)    largest logits with the adapter
  logits_norm             (positions)        Euclidean norm of all logits of the position
  grad_norm               (L, 7, 2)          Euclidean norm of d loss / d A and / d B
  grad_sample             (L, 7, 2, 8)       their elements number s * count / 8 + s for s = 0..7 (count elements, row-major)
  q0_column, k0_column    column 0 of layer 0's q_proj and k_proj, dequantized, in Hugging Face's row order
expected.json
  tokens, doc_lengths, weights, positions, loss, loss_base
  logits_ids              the ids of logits_top
  generate                greedy ids, float32
  error                   PyTorch's own in "f32" and "bf16", the worst of four equivalent computations (see make_golden.py):
    loss          |d| / loss, the worst of the loss and of each document's share of it
    logits_top    max|d| over all positions / max|ref| over those stored
    logits_norm   largest |d| / ref over all positions
    grad_norm     root mean square of |d| / ref over all matrices
    grad_sample   root mean square over all samples of |d| / (norm / sqrt(count)), the matrix's own
"""

import itertools
import json
import math
import sys

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

import make_golden as mg

RANK, ALPHA = 8, 16
TEXTS = [("The capital of France is Paris, and the capital of Italy is Rome. The Alps lie between", 20),
         ("<|im_start|>user\nWhat is 12 times 12?<|im_end|>\n<|im_start|>assistant\n12 times 12 is 144.<|im_end|>\n", 28)]
PROMPT = "<|im_start|>user\nName the largest planet.<|im_end|>\n<|im_start|>assistant\n"
POSITIONS = [0, 1, 9, 18, 20, 31, 40, 46]


def unpermute(w, heads):
    """GGUF's llama files pair neighbouring rows for the rotation, Hugging Face's pair row i with row i + Q/2."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def load(reader):
    def value(key):
        return reader.fields["llama." + key].contents()
    config = LlamaConfig(
        hidden_size=value("embedding_length"), intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"),
        num_attention_heads=value("attention.head_count"), num_key_value_heads=value("attention.head_count_kv"),
        vocab_size=value("vocab_size"), max_position_embeddings=value("context_length"), rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")}, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, attn_implementation="sdpa")
    names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm"}
    state = {}
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type).astype(np.float32)
        part = t.name.split(".")
        if part[0] == "blk":
            if part[2] in ("attn_q", "attn_k"):
                w = unpermute(w, config.num_attention_heads if part[2] == "attn_q" else config.num_key_value_heads)
            name = f"model.layers.{part[1]}.{names[part[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[part[0]]
        state[name] = torch.from_numpy(np.ascontiguousarray(w))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to_empty(device="cpu")
    model.load_state_dict(state)
    model.tie_weights()
    model.model.rotary_emb.__init__(config)
    return model


def tokenizer(reader):
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    t = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([s for s, kind in zip(tokens, types) if kind == 3])
    return t


def adapter(model):
    """PEFT's model with the adapter of the formula; the matrices in the order (layer, module, A then B)."""
    lora = mg.make_lora(model, dict(rank=RANK, alpha=ALPHA, rslora=False, seed=0))
    params = mg.lora_params(lora)
    order = []
    for layer in range(model.config.num_hidden_layers):
        for index, target in enumerate(mg.TARGETS):
            t = 7 * layer + index
            at = f"base_model.model.model.layers.{layer}.{'self_attn' if index < 4 else 'mlp'}.{target}"
            a, b = params[at + ".lora_A.weight"], params[at + ".lora_B.weight"]
            n = np.arange(a.numel(), dtype=np.float64)
            a.data = torch.from_numpy((np.sin(1 + t + 0.731 * n) / math.sqrt(a.shape[1])).astype(np.float32)).view(a.shape)
            n = np.arange(b.numel(), dtype=np.float64)
            b.data = torch.from_numpy((0.01 * np.sin(2 + t + 0.577 * n)).astype(np.float32)).view(b.shape)
            order += [a, b]
    return lora, order


def run(lora, order, tokens, weights, forward):
    logits = forward(lora, tokens)
    loss, nll = mg.loss_of(logits if logits.dtype == torch.float64 else logits.float(), tokens, weights)
    for p in order:
        p.grad = None
    loss.backward()
    each = [float(x.detach().sum() / weights.sum()) for x in nll.split(mg.DOCS)]
    return logits.detach(), [float(loss.detach()), *each], [p.grad.clone() for p in order]


def summary(logits, losses, grads, ids):
    """What is compared, in float64; losses: of all, then each document's share of it."""
    picked, layers = logits.double(), len(grads) // 14
    samples = [g.flatten()[[s * g.numel() // 8 + s for s in range(8)]] for g in grads]
    return {"losses": losses, "ids": ids, "logits_top": picked.gather(1, ids), "logits_norm": picked.norm(dim=-1),
            "grad_norm": torch.stack([g.double().norm() for g in grads]).view(layers, 7, 2),
            "grad_sample": torch.stack(samples).double().view(layers, 7, 2, 8),
            "count": torch.tensor([float(g.numel()) for g in grads], dtype=torch.float64).view(layers, 7, 2)}


def compare(got, want):
    size = (want["grad_norm"] / want["count"].sqrt())[..., None]
    return {"loss": max(abs(g - w) for g, w in zip(got["losses"], want["losses"])) / want["losses"][0],
            "logits_top": float((got["logits_top"] - want["logits_top"]).abs().max() / want["logits_top"][POSITIONS].abs().max()),
            "logits_norm": float((got["logits_norm"] / want["logits_norm"] - 1).abs().max()),
            "grad_norm": float((got["grad_norm"] / want["grad_norm"] - 1).square().mean().sqrt()),
            "grad_sample": float(((got["grad_sample"] - want["grad_sample"]) / size).square().mean().sqrt())}


def main():
    torch.set_num_threads(2)
    reader = GGUFReader(sys.argv[1])
    tok = tokenizer(reader)
    docs = [tok.encode(text).ids[:n] for text, n in TEXTS]
    mg.DOCS = [len(d) for d in docs]
    tokens = torch.tensor(sum(docs, []))
    weights = torch.ones(len(tokens))
    weights[0] = weights[mg.DOCS[0]] = 0
    weights[mg.DOCS[0] + 1:mg.DOCS[0] + 15] = 0  # most of the question

    model = load(reader)
    state = model.state_dict()
    out = {"q0_column": state["model.layers.0.self_attn.q_proj.weight"][:, 0],
           "k0_column": state["model.layers.0.self_attn.k_proj.weight"][:, 0]}
    out = {n: t.clone() for n, t in out.items()}
    prompt = torch.tensor(tok.encode(PROMPT).ids)
    gen = dict(mg.generate(model, prompt, 12), prompt=prompt.tolist(), text=PROMPT)
    gen["answer"] = tok.decode(gen["ids"], skip_special_tokens=False)
    lora, order = adapter(model)
    mg.patch_f64(lora.double())
    logits, losses, grads = run(lora, order, tokens, weights, mg.forward)
    with torch.no_grad(), lora.disable_adapter():
        loss_base = float(mg.loss_of(mg.forward(lora, tokens), tokens, weights)[0])
    del lora, model, order
    want = summary(logits, losses, grads, logits.topk(16).indices)
    error = {}
    for kind, dtype in {"f32": torch.float32, "bf16": torch.bfloat16}.items():
        lora, order = adapter(load(reader))
        lora.to(dtype)
        each = []
        for attention, way in itertools.product(["sdpa", "eager"], [mg.forward, mg.forward_packed]):
            lora.base_model.model.config._attn_implementation = attention
            each.append(compare(summary(*run(lora, order, tokens, weights, way), want["ids"]), want))
            print(kind, attention, way.__name__, each[-1])
        error[kind] = {key: max(e[key] for e in each) for key in each[0]}
    assert error["f32"]["logits_top"] < 1e-4 and error["f32"]["grad_sample"] < 1e-3, error
    for name in ("logits_top", "logits_norm", "grad_norm", "grad_sample"):
        out[name] = want[name][POSITIONS] if name.startswith("logits") else want[name]
    folder = mg.HERE / "smollm2"
    folder.mkdir(exist_ok=True)
    save_file({n: t.float().contiguous() for n, t in out.items()}, folder / "expected.safetensors", metadata={"format": "pt"})
    (folder / "expected.safetensors").chmod(0o644)
    (folder / "expected.json").write_text(json.dumps({
        "made_with": mg.versions(), "rank": RANK, "alpha": ALPHA, "tokens": tokens.tolist(), "doc_lengths": mg.DOCS,
        "weights": weights.int().tolist(), "positions": POSITIONS, "loss": losses[0], "loss_base": loss_base,
        "logits_ids": want["ids"][POSITIONS].tolist(), "error": error, "generate": gen}, indent=1) + "\n")
    print(losses, loss_base, error, gen)


if __name__ == "__main__":
    main()
