"""What the text goldens share: tokenizers of the PyPI package `tokenizers`, built from the files at hand, and the texts."""
import json
import os
import random
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SHARED = os.path.join(os.environ.get("LORAT_SHARED", os.path.join(ROOT, "..", "shared")), "data", "tokenizers")
SMOLLM2 = os.path.join(ROOT, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
GPT2 = os.path.join(SHARED, "llama.cpp", "ggml-vocab-gpt-2.gguf")
REFACT = os.path.join(SHARED, "llama.cpp", "ggml-vocab-refact.gguf")
QWEN3 = os.path.join(SHARED, "qwen3", "tokenizer.json")
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def gguf_metadata(path):
    """The key-value pairs of a GGUF file; strings as bytes."""
    with open(path, "rb") as f:
        data = f.read(32 << 20)
    at = 4
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def take(code):
        nonlocal at
        values = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return values

    def value(kind):
        nonlocal at
        if kind == 8:
            (n,) = take("Q")
            at += n
            return data[at - n:at]
        if kind == 9:
            kind, n = take("IQ")
            return [value(kind) for _ in range(n)]
        return take(sizes[kind])[0]

    _, _, pairs = take("IQQ")
    result = {}
    for _ in range(pairs):
        key = value(8).decode()
        (kind,) = take("I")
        result[key] = value(kind)
    return result


def from_gguf(path, digits):
    """The tokenizer as the model's own tokenizer.json has it: GPT-2's splitting, after single digits or not."""
    meta = gguf_metadata(path)
    tokens = [t.decode() for t in meta["tokenizer.ggml.tokens"]]
    merges = [tuple(m.decode().split(" ")) for m in meta["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer.pre_tokenizer = (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
                               if digits else byte_level)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False)
               for t, kind in zip(tokens, meta["tokenizer.ggml.token_type"]) if kind == 3]
    tokenizer.add_special_tokens(special)
    return tokenizer


def all_tokenizers():
    return {"gpt-2": from_gguf(GPT2, False), "smollm2": from_gguf(SMOLLM2, True), "qwen3": Tokenizer.from_file(QWEN3)}


def llama3_splitter():
    return pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated")


def vector_texts():
    with open(os.path.join(SHARED, "llama.cpp", "ggml-vocab-gpt-2.gguf.inp"), newline="", encoding="utf-8") as f:
        return f.read().split("\n__ggml_vocab_test__\n")


def mixed_script(seed, words):
    """A long text that changes script from word to word, with combining marks in any order."""
    r = random.Random(seed)
    ranges = [(0x61, 0x7a), (0x41, 0x5a), (0xc0, 0x17f), (0x391, 0x3c9), (0x410, 0x44f), (0x5d0, 0x5ea), (0x620, 0x64a),
    (0x905, 0x939),
              (0xe01, 0xe2e), (0x1100, 0x1112), (0x3041, 0x3096), (0x30a1, 0x30fa), (0x4e00, 0x9fa5), (0xac00, 0xd7a3),
              (0x30, 0x39),
              (0x660, 0x669), (0x2160, 0x2188), (0x1f300, 0x1f5ff), (0x21, 0x2f), (0x20000, 0x2a6d6), (0x2000, 0x206f)]
    marks = [0x300, 0x301, 0x302, 0x303, 0x308, 0x30a, 0x323, 0x327, 0x328, 0x331, 0x338, 0x345, 0x64b, 0x651, 0x93c, 0x94d,
             0x5b0,
             0x5bc,
             0xe38, 0x3099, 0x1161, 0x11a8, 0xfe0f, 0x200d]
    spaces = [" ", " ", " ", " ", "  ", "\n", "\t", "\r\n", "   \n\n ", "\u00a0", "\u3000", "\u2028", "\u180e", "\u0085",
    "\v\f", "\x1c", ""]
    out = []
    for _ in range(words):
        low, high = r.choice(ranges)
        for _ in range(r.randint(1, 7)):
            out.append(chr(r.randint(low, high)))
            while r.random() < 0.25:
                out.append(chr(r.choice(marks)))
        out.append(r.choice(spaces))
    return "".join(out)


def own_texts():
    return [
        "e\u0301a\u0300o\u0308u\u0308\u0304 A\u030a \u212b \u2126 K\u212a", "q\u0323\u0307 q\u0307\u0323 s\u0307\u0323",
        ">\u0338 <\u0338 =\u0338",
        "<|im_end|>\u0338 after a token", "\u1100\u1161\u11a8 \uac00\u11a8 \u1112\u1161\u11ab\u1100\u1173\u11af",
        "\u0344 \u0958 \ufb1d \u2adc \uf900",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
        " \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
        "\u0627\u0644\u0644\u063a\u0629 \u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u064e\u0651\u0629"
        " \u0661\u0662\u0663\u0664",
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937 \u0967\u0968\u0969 \u0928\u093c",
        "\u6f22\u5b57\u304b\u306a\u4ea4\u3058\u308a\u6587\u3000\u5168\u89d2\u3000\uff11\uff12\uff13\u304b\u3099",
        "one\r\ntwo\r\n\r\nthree\r\rfour\n\rfive", "   leading and trailing   ", "a" + " " * 100 + "b",
        "\n" * 50 + "x" + "\n" * 7, " \n \n  \n\t\n x", "\t\tcode();\n\t\t}\n",
        "x" + " " * 17 + "\n" + " " * 5 + "y \n",
        "0 1 22 333 4444 55555 666666 7777777 3.14159 1,000,000 2^64 0x1F 1e-5 \u00bd\u2167\u4e09\u00b2\u0663 a1b2c3",
        "I'M YOU'RE WE'VE HE'LL SHE'D IT'S DON'T i'm you're we've he'll she'd it's don't"
        " 'Tis O'Re'LLy''s ''' 'S\u017f '\u017f I\u2019m",
        "nul\0in\0\0the middle\0", "\0", "\x01\x02\x03\x05\x07\x08\x0b\x0c\x0e\x0f\x7f\x80\x9f",
        "\u00ad soft \u200b zero \ufeff bom \ufffd \U0010ffff \ue000",
        "<|im_start|>user\nhello<|im_end|>\n<|endoftext|>", "<|im_start|><|im_end|>x<|im_end",
        "<|im_end|><|im_end|> <|endoftext|>\n\n<|endoftext|>", "<<|im_end|>> <think>\nhm\n</think>\n\nyes",
        "fn main() { let x: Vec<u8> = vec![0; 1 << 20]; /* ... */ }\n    return x->y[3] ?? null;\n",
        "https://example.org/a_b-c?d=e&f=%20#g",
        "a" * 3000, "ab" * 2000, "\u00e9" * 500, "!" * 700 + "?" * 300, "-" * 129 + "\n" + "=" * 80,
        "e" + "\u0301\u0323\u0327" * 60 + " x",
        "'S'T'RE'VE'M'LL'D 's't're've'm'll'd 'x'1 don'T", "\u00e9'\u00e8 l'\u00e9t\u00e9 d\u2019accord",
        "x\u0301\u0301\u0323 \u0301 lone \u0301\n\u0323",
        "", " ", "\n", "\r\n", "\u3000", "\u180e\u180e a\u180eb", "\x1c\x1d a \x1e\x1f", "\u0085\u0085x", "\u2028\u2029 y",
        "\u00a0\u00a0z \u00a0 w",
        mixed_script(1, 300), mixed_script(2, 300), mixed_script(3, 600),
    ]


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")
