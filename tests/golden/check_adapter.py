#!/usr/bin/env python3
"""Load an adapter folder that lorat wrote with PEFT, over the tiny Llama of make_adapter.py.

    python tests/golden/check_adapter.py FOLDER

The folder's values are (i % 251 - 125) / 64 + layer + (0.5 for B), i counted over the matrix row by row. Checked: PEFT takes every
tensor and misses none, the values, the scale, and that the adapter changes the logits as base + scale * B A says. Exit 77 when a
package is missing, 1 on a difference.
"""

import re
import sys
import warnings
from pathlib import Path

try:
    import peft
    import torch
    import transformers  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).resolve().parent))
from make_adapter import tiny  # noqa: E402


def main():
    folder = sys.argv[1]
    ids = torch.arange(1, 20).reshape(1, -1)
    base = tiny().eval()
    with torch.no_grad():
        before = base(ids).logits
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT warns of missing and unexpected keys
        model = peft.PeftModel.from_pretrained(base, folder).eval()
    config = model.peft_config["default"]
    assert config.r == 3 and config.lora_alpha == 12 and config.lora_dropout == 0.25 and not config.use_rslora, config
    assert set(config.target_modules) == {"q_proj", "o_proj"}, config.target_modules
    n = 0
    for name, p in model.named_parameters():
        found = re.match(r".*layers\.(\d+)\.self_attn\.(q|o)_proj\.lora_(A|B)\.default\.weight$", name)
        if "lora_" in name:
            assert found, name
            i = torch.arange(p.numel(), dtype=torch.float32).reshape(p.shape)
            want = (i % 251 - 125) / 64 + int(found[1]) + (0.5 if found[3] == "B" else 0.0)
            assert torch.equal(p, want), name
            n += 1
    assert n == 8, n
    module = model.base_model.model.model.layers[0].self_attn.q_proj
    assert module.scaling["default"] == 4.0, module.scaling
    x = torch.randn(5, 24)
    with torch.no_grad():
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        want = module.base_layer(x) + 4.0 * (x @ a.T) @ b.T
        assert torch.allclose(module(x), want, rtol=1e-4, atol=1e-3)
        after = model(ids).logits
    assert not torch.allclose(before, after)
    print(f"PEFT {peft.__version__} loads it")


if __name__ == "__main__":
    main()
