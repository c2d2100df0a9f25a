#!/usr/bin/env python3
"""A reference adapter, made with PEFT on a tiny random Llama.

    python tests/golden/make_adapter.py

Writes tests/golden/adapter/: adapter_config.json and adapter_model.safetensors as PEFT saves them, and expected.json with PEFT's
own scale and, per tensor, shape, sum and a weighted sum that notices transposition (float64).
"""

import json
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path(__file__).resolve().parent / "adapter"


def tiny():
    torch.manual_seed(5)
    return LlamaForCausalLM(LlamaConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
                                        num_key_value_heads=1, vocab_size=50, max_position_embeddings=64, pad_token_id=0))


def main():
    model = peft.get_peft_model(tiny(), peft.LoraConfig(r=3, lora_alpha=7, lora_dropout=0.05, use_rslora=True,
                                                        target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"))
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.5)
    model.base_model.model.name_or_path = model.peft_config["default"].base_model_name_or_path = "examples/tiny \"llama\""
    model.save_pretrained(OUT, save_embedding_layers=False)
    (OUT / "README.md").unlink(missing_ok=True)
    tensors = {}
    for name, t in sorted(load_file(OUT / "adapter_model.safetensors").items()):
        t = t.double()
        i = torch.arange(t.numel(), dtype=torch.float64).reshape(t.shape)
        tensors[name] = {"shape": list(t.shape), "sum": t.sum().item(), "weighted": (t * (i % 7 + 1)).sum().item()}
    scale = next(m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A") and hasattr(m, "scaling"))
    (OUT / "expected.json").write_text(json.dumps({"scale": scale, "peft": peft.__version__, "tensors": tensors}, indent=1) + "\n")


if __name__ == "__main__":
    main()
