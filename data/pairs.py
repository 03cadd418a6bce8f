#!/usr/bin/env python3
"""Joins lines with images and lines with sounds of the same answers: image alone, sound alone, both, and both degraded.

usage: pairs.py IMAGES.jsonl SOUNDS.jsonl --output OUT.jsonl [--kinds image,audio,both] [--count N] [--seed N]
                [--image-noise X] [--sound-noise X] [--prompt TEXT]

Lines are as docs/modalities.md has them, with one image (of an IDX file) or one sound (a WAV file of 16 bits) and an answer. Each of
the N examples (default: as many as there are images or sounds, the more of the two) is of one of the kinds in turn; image and sound of
an example have the same answer, and every image and sound comes up before one comes again. With noise, what comes out is degraded: noise of
deviation X (of 1 = white, and of the sound's own loudness) is added, and written to files beside OUT.jsonl. The same arguments give
the same bytes.
"""
import argparse
import array
import gzip
import json
import math
import os
import random
import struct
import sys
import wave


def fail(status, message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def entry(text):
    """Path, first entry or None, count of entries."""
    path, mark, numbers = text.rpartition("#")
    if not mark:
        return text, None, 1
    first, dots, end = numbers.partition("..")
    return path, int(first), int(end) - int(first) if dots else 1


def read_idx(path, cache={}):
    """Shape and bytes."""
    if path not in cache:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            data = file.read()
        if data[:3] != b"\0\0\x08":
            fail(3, f"'{path}' is no IDX file of bytes")
        shape = struct.unpack(f">{data[3]}I", data[4:4 + 4 * data[3]])
        if len(data) != 4 + 4 * data[3] + math.prod(shape):
            fail(3, f"'{path}' is cut")
        cache[path] = shape, data[4 + 4 * data[3]:]
    return cache[path]


def read(path, kind):
    """(path, entry or None, answer) of every example."""
    examples, folder = [], os.path.dirname(path)
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            line = json.loads(text)
            parts = [part for part in line.get("parts", []) if kind in part]
            if len(parts) != 1 or "answer" not in line:
                fail(3, f"{path}, line {number}: not one {kind} and an answer")
            name, first, count = entry(parts[0][kind])
            for i in range(count):
                answer = line["answer"]
                if not isinstance(answer, str):
                    labels, at, _ = entry(answer["labels"])
                    answer = str(read_idx(os.path.join(folder, labels))[1][at + i])
                examples.append((os.path.join(folder, name), None if first is None else first + i, answer))
    return examples


def noisy_image(example, noise, draw):
    path, index, _ = example
    if index is None:
        fail(3, f"'{path}': only images of IDX files are degraded")
    (_, height, width), data = read_idx(path)
    size = height * width
    return bytes(min(255, max(0, round(p + 255 * noise * draw.gauss(0, 1)))) for p in data[index * size:(index + 1) * size])


def noisy_sound(example, noise, draw, path):
    with wave.open(example[0], "rb") as file:
        if file.getsampwidth() != 2:
            fail(3, f"'{example[0]}': only WAV files of 16 bits are degraded")
        parameters, samples = file.getparams(), array.array("h", file.readframes(file.getnframes()))
    loud = math.sqrt(sum(s * s for s in samples) / max(1, len(samples)))
    made = array.array("h", (min(32767, max(-32768, round(s + noise * loud * draw.gauss(0, 1)))) for s in samples))
    with wave.open(path, "wb") as file:
        file.setparams(parameters)
        file.writeframes(made.tobytes())


def turns(examples, draw):
    """Endlessly, every one once in a new order each time; by answer."""
    by_answer = {}
    for example in examples:
        by_answer.setdefault(example[2], []).append(example)

    def stream(some):
        while True:
            draw.shuffle(some)
            yield from some

    return {answer: stream(some) for answer, some in sorted(by_answer.items())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images")
    parser.add_argument("sounds")
    parser.add_argument("--output", required=True)
    parser.add_argument("--kinds", default="image,audio,both")
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--image-noise", type=float, default=0)
    parser.add_argument("--sound-noise", type=float, default=0)
    parser.add_argument("--prompt", default="", help="text between the media and the answer")
    o = parser.parse_args()
    kinds = o.kinds.split(",")
    if not set(kinds) <= {"image", "audio", "both"}:
        fail(2, f"--kinds '{o.kinds}': give some of image, audio and both")
    draw = random.Random(o.seed)
    images, sounds = read(o.images, "image"), read(o.sounds, "audio")
    answers = sorted({e[2] for e in images} & {e[2] for e in sounds})
    if not answers:
        fail(3, "no image and no sound have the same answer")
    of_images, of_sounds = turns(images, draw), turns(sounds, draw)
    folder, stem = os.path.dirname(o.output) or ".", os.path.splitext(os.path.basename(o.output))[0]
    os.makedirs(folder, exist_ok=True)
    degraded, lines, shape = [], [], None
    for i in range(o.count or max(len(images), len(sounds))):
        kind, answer = kinds[i % len(kinds)], draw.choice(answers)
        parts = []
        if kind != "audio":
            example = next(of_images[answer])
            name = os.path.relpath(example[0], folder)
            if o.image_noise > 0:
                shape = read_idx(example[0])[0][1:]
                name, at = f"{stem}-images-idx3-ubyte.gz", len(degraded)
                degraded.append(noisy_image(example, o.image_noise, draw))
            else:
                at = example[1]
            parts.append({"image": name if at is None else f"{name}#{at}"})
        if kind != "image":
            example = next(of_sounds[answer])
            name = os.path.relpath(example[0], folder)
            if o.sound_noise > 0:
                os.makedirs(os.path.join(folder, stem), exist_ok=True)
                name = os.path.join(stem, f"{i}.wav")
                noisy_sound(example, o.sound_noise, draw, os.path.join(folder, name))
            parts.append({"audio": name})
        if o.prompt:
            parts.append({"text": o.prompt})
        lines.append({"parts": parts, "answer": answer})
    if degraded:
        header = struct.pack(">BBBBIII", 0, 0, 8, 3, len(degraded), *shape)
        with open(os.path.join(folder, f"{stem}-images-idx3-ubyte.gz"), "wb") as file, \
                gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            packed.write(header + b"".join(degraded))
    with open(o.output, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
    print(f"{o.output}\t{len(lines)}")


if __name__ == "__main__":
    main()
