"""What tokenizer_write_json writes, loaded by the PyPI package `tokenizers` (and transformers): the same ids as the tokenizers
that the goldens were made with.

    python tests/golden/check_tokenizer.py BUILD/tests/text/test_text_identity

Exits 77 when the package or the vocabularies are absent.
"""
import os
import subprocess
import sys
import tempfile

try:
    from tokenizers import Tokenizer
    from tokenizer_common import QWEN3, REFACT, SMOLLM2, all_tokenizers, from_gguf, own_texts
except ImportError as error:
    print("skipped:", error)
    sys.exit(77)
if not all(os.path.exists(p) for p in (QWEN3, REFACT, SMOLLM2)):
    print("skipped: a vocabulary is absent")
    sys.exit(77)

failures = 0
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], folder], check=True, stdout=subprocess.DEVNULL)
    originals = dict(all_tokenizers(), refact=from_gguf(REFACT, True))
    for name, original in originals.items():
        path = os.path.join(folder, name + ".json")
        written = Tokenizer.from_file(path)
        texts = own_texts()
        good = 0
        for text in texts:
            want = original.encode(text, add_special_tokens=False).ids
            got = written.encode(text, add_special_tokens=False).ids
            back = written.decode(got, skip_special_tokens=False)
            good += got == want and back == original.decode(want, skip_special_tokens=False)
        print(f"{name}: {good} of {len(texts)}")
        failures += good != len(texts)
        try:
            from transformers import PreTrainedTokenizerFast
        except ImportError:
            continue
        fast = PreTrainedTokenizerFast(tokenizer_file=path)
        failures += fast("Hello 12")["input_ids"] != original.encode("Hello 12", add_special_tokens=False).ids
sys.exit(1 if failures else 0)
