#!/usr/bin/python3
"""Outside CI: tokens of Hone beside those of SentencePiece, on a million characters of many scripts, for models of both algorithms
with its own normalizer (nmt_nfkc), trained here on a part of the same text.

    apt-get install python3-sentencepiece
    /usr/bin/python3 tests/tools/compare_sentence_piece.py build/bin/inspect [tokenizer.model ...]

Prints a line for each model; exit status 1 where a token differs, with the first place."""

import io
import json
import os
import random
import subprocess
import sys
import tempfile

import sentencepiece

RANGES = [(0x61, 0x7A), (0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x17F), (0x391, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x620, 0x64A),
          (0x905, 0x939), (0xE01, 0xE2E), (0x3041, 0x30F6), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xFF01, 0xFF9F), (0x2460, 0x24FF),
          (0x1F600, 0x1F64F), (0x30, 0x39), (0x21, 0x2F), (0x2000, 0x206F), (0xFB00, 0xFB4F)]
MARKS = [0x301, 0x308, 0x327, 0x64E, 0x93E, 0x3099, 0x200D, 0xFE0F]
SPACES = [" "] * 8 + ["  ", "\n", "\t", "\u00a0", "\u3000", "\r\n", "\u200b"]


def text_of(characters, seed):
    generator, parts, count = random.Random(seed), [], 0
    while count < characters:
        low, high = generator.choice(RANGES)
        word = ""
        for _ in range(generator.randint(1, 9)):
            word += chr(generator.randint(low, high))
            if generator.random() < 0.04:
                word += chr(generator.choice(MARKS))
        if generator.random() < 0.3:
            word = generator.choice(["the", "river", "naïve", "straße", "привет", "東京", "ﬁne", "aaaa"])
        parts.append(word + generator.choice(SPACES))
        count += len(parts[-1])
    return "".join(parts)


def trained(**options):
    model = io.BytesIO()
    lines = text_of(300000, 1).splitlines()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, minloglevel=2, hard_vocab_limit=False, **options)
    return model.getvalue()


def main():
    inspect, files = sys.argv[1], sys.argv[2:]
    models = {path: open(path, "rb").read() for path in files} or {
        "unigram": trained(model_type="unigram", vocab_size=4000),
        "unigram with bytes": trained(model_type="unigram", vocab_size=4000, byte_fallback=True, character_coverage=0.98),
        "bpe": trained(model_type="bpe", vocab_size=4000, character_coverage=0.98),
        "bpe with bytes": trained(model_type="bpe", vocab_size=4000, byte_fallback=True, character_coverage=0.9, split_by_whitespace=False,
                                  remove_extra_whitespaces=False, user_defined_symbols=["the", "<x>"])}
    different = 0
    for name, model in models.items():
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        total = 0
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "tokenizer.model")
            open(path, "wb").write(model)
            for seed in range(2, 12):
                text = text_of(100000, seed)
                ids = processor.encode(text)
                done = subprocess.run([inspect, path, "--tokenize", "-", "--format", "json"], input=text.encode(), capture_output=True, check=True)
                ours = json.loads(done.stdout)["ids"]
                total += len(ids)
                if ours != ids:
                    at = next((i for i, (a, b) in enumerate(zip(ours, ids)) if a != b), min(len(ours), len(ids)))
                    print(f"{name}: text {seed}, token {at}: {ours[at:at + 5]} here, {ids[at:at + 5]} there "
                          f"({[processor.id_to_piece(i) for i in ids[at:at + 5]]})")
                    different += 1
                    break
        print(f"{name}: {total} tokens")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
