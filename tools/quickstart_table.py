"""Prints what quickstart.sh measured: two small tables and one sentence."""

import json
import sys


def rows(path):
    with open(path) as file:
        return {row["model"]: row for row in json.load(file)["rows"]}


def size(row):
    return f"{row['file_bytes'] / 1e6:.1f} MB"


def main(scores_path, speeds_path):
    scores, speeds = rows(scores_path), rows(speeds_path)
    print(f"{'model':16}{'file':>10}{'sparsity':>10}{'bits per byte':>15}{'accuracy':>10}")
    for name, row in scores.items():
        print(f"{name:16}{size(row):>10}{row['sparsity']:>10.0%}{row['bits_per_byte']:>15.4f}{row['accuracy']:>10.1%}")
    print(f"\n{'113M parameters':16}{'file':>10}{'prompt tokens/s':>17}{'written tokens/s':>18}")
    for name, row in speeds.items():
        print(f"{name:16}{size(row):>10}{row['prefill_tokens_per_second']:>17.0f}{row['decode_tokens_per_second']:>18.0f}")
    dense, small = scores["dense.h5"], scores["small.h5"]
    slow, fast = speeds["large-dense.h5"], speeds["large-small.h5"]
    print(f"\nSparse int8 (small.h5) is {dense['file_bytes'] / small['file_bytes']:.1f} times smaller than dense, has "
          f"{small['bits_per_byte']:.3f} bits per byte where dense has {dense['bits_per_byte']:.3f},\nand with 113M parameters it "
          f"writes text {fast['decode_tokens_per_second'] / slow['decode_tokens_per_second']:.1f} times faster.")


if __name__ == "__main__":
    main(*sys.argv[1:])
