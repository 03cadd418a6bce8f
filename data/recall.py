#!/usr/bin/env python3
"""Writes a long-range task: recall of a key's value over a chosen distance, as JSON lines with "prompt" and "answer"."""

import argparse
import json
import math
import random
import sys

KEYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PAIR = len("A0 ")
NOUNS = ["river", "bridge", "garden", "lamp", "road", "winter", "harbour", "letter"]
VERBS = ["waits for", "follows", "remembers", "leaves"]


def parse_range(text, limit):
    """'2048' or '64:2048' as (least, most), both from 1 to `limit`."""
    parts = [int(part) for part in text.split(":")]
    if len(parts) > 2 or min(parts) < 1 or parts[0] > parts[-1] or parts[-1] > limit:
        raise ValueError(text)
    return parts[0], parts[-1]


def filler(rng, size):
    """`size` bytes of sentences in which no key and no digit occurs."""
    text = ""
    while len(text) < size:
        text += f"the {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)}. "
    return text[: size - 1] + "\n" if size > 0 else ""


def question(rng, pairs, distance):
    """A document: `pairs` keys, each with its value, filler, and the same again in another order. The last value asked for
    stands `distance` bytes behind its first occurrence, or as near behind that as the pairs between allow."""
    keys = rng.sample(KEYS, pairs)
    values = {key: str(rng.randrange(10)) for key in keys}
    asked = rng.sample(keys, pairs)
    between = (pairs - 1 - keys.index(asked[-1])) * PAIR + pairs * PAIR  # from one value to the other without filler
    prompt = "".join(f"{key}{values[key]} " for key in keys) + filler(rng, max(0, distance - between))
    prompt += "".join(f"{key}{values[key]} " for key in asked[:-1]) + asked[-1]
    return {"prompt": prompt, "answer": values[asked[-1]]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: data/recall.py --distance 2048 --count 200 --seed 2 > recall.jsonl")
    parser.add_argument("--distance", default="2048", metavar="BYTES|LEAST:MOST",
                        help="bytes from a value to its recall; a range is drawn from evenly in its logarithm (default %(default)s)")
    parser.add_argument("--pairs", default="8", metavar="N|LEAST:MOST",
                        help="keys to remember, at most 26; a range is drawn from evenly (default %(default)s)")
    parser.add_argument("--count", type=int, default=1000, help="documents (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same numbers give the same bytes (default %(default)s)")
    args = parser.parse_args()
    ranges = {}
    for name, limit in (("distance", 10**9), ("pairs", len(KEYS))):
        text = getattr(args, name)
        try:
            ranges[name] = parse_range(text, limit)
        except ValueError:
            parser.error(f"--{name} takes a number or LEAST:MOST, from 1 to {limit}, not '{text}'")
    if args.count < 1:
        parser.error(f"--count must be at least 1, not {args.count}")
    least, most = ranges["distance"]
    for i in range(args.count):
        rng = random.Random(f"recall {args.seed} {i}")
        distance = round(math.exp(rng.uniform(math.log(least), math.log(most))))
        sys.stdout.write(json.dumps(question(rng, rng.randint(*ranges["pairs"]), distance)) + "\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
