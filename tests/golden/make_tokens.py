"""Golden token ids: the PyPI package `tokenizers` (0.23.3 when made) on the texts of tokenizer_common.py.

    python tests/golden/make_tokens.py    writes tests/golden/text/tokens.json

Format: {"texts": [...], "<tokenizer>": [[id, ...], ...]}; special tokens in the text are matched.
"""
import os

from tokenizer_common import ROOT, all_tokenizers, own_texts, write_json

texts = own_texts()
result = {"texts": texts}
for name, tokenizer in all_tokenizers().items():
    result[name] = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
write_json(os.path.join(ROOT, "tests", "golden", "text", "tokens.json"), result)
