"""Golden pieces of Llama 3's pre-tokenizer, for which no vocabulary is at hand: Split of the PyPI package `tokenizers`.

    python tests/golden/make_split.py     writes tests/golden/text/split_llama3.json

Format: {"texts": [...], "llama3": [[byte length of each piece, ...], ...], "vectors": the same for llama.cpp's 47 texts, which
stay in their own file}.
"""
import os

from tokenizer_common import ROOT, llama3_splitter, own_texts, vector_texts, write_json


def lengths(texts):
    split = llama3_splitter()
    result = [[len(piece.encode()) for piece, _ in split.pre_tokenize_str(t)] for t in texts]
    assert all(sum(pieces) == len(text.encode()) for text, pieces in zip(texts, result))
    return result


own = own_texts()
write_json(os.path.join(ROOT, "tests", "golden", "text", "split_llama3.json"),
           {"texts": own, "llama3": lengths(own), "vectors": lengths(vector_texts())})
