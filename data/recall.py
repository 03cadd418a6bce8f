#!/usr/bin/env python3
"""Writes a long-range task: recall of a key's value over a chosen distance, as JSON lines with "prompt" and "answer"."""

import argparse
import json
import math
import random
import sys

KEY_LETTERS = "bcdfghjklmnpqrstvwxz"
NOUNS = ["river", "bridge", "garden", "lamp", "road", "winter", "harbour", "letter"]
VERBS = ["waits for", "follows", "remembers", "leaves"]


def parse_range(text):
    """'2048' or '64:2048' as (least, most)."""
    parts = [int(part) for part in text.split(":")]
    if len(parts) > 2 or min(parts) < 1 or parts[0] > parts[-1]:
        raise ValueError(text)
    return parts[0], parts[-1]


def filler(rng, size):
    """`size` bytes of sentences in which no key and no digit occurs."""
    text = ""
    while len(text) < size:
        text += f"the {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)}. "
    return text[: size - 1] + "\n" if size > 0 else ""


def question(rng, pairs, distance):
    """A document: `pairs` lines KEY=VALUE, filler, and the same keys asked in another order. The last value asked for
    stands `distance` bytes behind its first occurrence, or as near behind that as the pairs between allow."""
    keys = set()
    while len(keys) < pairs:
        keys.add("".join(rng.choice(KEY_LETTERS) for _ in range(2)))
    keys = sorted(keys)
    rng.shuffle(keys)
    values = {key: f"{rng.randrange(100):02d}" for key in keys}
    line = len("bc=00\n")
    asked = keys[:]
    rng.shuffle(asked)
    between = (pairs - 1 - keys.index(asked[-1])) * line + pairs * line  # from one value to the other without filler
    prompt = "".join(f"{key}={values[key]}\n" for key in keys) + filler(rng, max(0, distance - between))
    prompt += "".join(f"{key}={values[key]}\n" for key in asked[:-1]) + f"{asked[-1]}="
    return {"prompt": prompt, "answer": values[asked[-1]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: data/recall.py --distance 2048 --count 200 --seed 2 > recall.jsonl")
    parser.add_argument("--distance", default="2048", metavar="BYTES|LEAST:MOST",
                        help="bytes from a value to its recall; a range is drawn from evenly in its logarithm (default %(default)s)")
    parser.add_argument("--pairs", type=int, default=4, help="keys to remember (default %(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="documents (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same numbers give the same bytes (default %(default)s)")
    args = parser.parse_args()
    try:
        least, most = parse_range(args.distance)
    except ValueError:
        parser.error(f"--distance takes bytes of 1 or more, or LEAST:MOST, not '{args.distance}'")
    if not 1 <= args.pairs <= 200:
        parser.error(f"--pairs must be between 1 and 200, not {args.pairs}")
    if args.count < 1:
        parser.error(f"--count must be at least 1, not {args.count}")
    for i in range(args.count):
        rng = random.Random(f"recall {args.seed} {i}")
        distance = round(math.exp(rng.uniform(math.log(least), math.log(most))))
        sys.stdout.write(json.dumps(question(rng, args.pairs, distance)) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
