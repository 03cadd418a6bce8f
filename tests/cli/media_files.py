"""Images and sounds that the tests make: four digits, each a column of a picture, or a tone."""

import json
import math
import os
import random
import shutil
import struct
import tempfile
import wave
import zlib

from hone_cli import run
from model_files import ModelTest


def write_png(path, rows):
    """Grey, 8 bits."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = b"".join(b"\0" + bytes(row) for row in rows)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)) +
                   chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b""))


def write_wav(path, tone, seconds=0.1, rate=8000):
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", int(12000 * math.sin(2 * math.pi * tone * t / rate)))
                                  for t in range(int(seconds * rate))))


def image_of(digit, draw):
    """Six rows of eight: one of four bright columns pairs, with noise."""
    return [[max(0, min(255, (200 if x // 2 == digit else 30) + draw.randrange(-25, 25))) for x in range(8)] for _ in range(6)]


SHAPE = ["--layers", 2, "--dim", 32, "--heads", 2, "--ffn", 64, "--context", 48, "--image", "patches:3x4:GREY:12x12",
         "--audio", "mel:8:8000:25/10:2"]


class MediaTest(ModelTest):
    """A folder that all tests of a class share, with `data`, lines of an image, of a sound, and of both, in turn."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.mkdtemp(prefix="hone-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        draw, cls.lines_of = random.Random(1), []
        for i in range(48):
            digit, kind = i % 4, i // 4 % 3
            image, sound = f"{i}.png", f"{i}.wav"
            write_png(os.path.join(cls.folder, image), image_of(digit, draw))
            write_wav(os.path.join(cls.folder, sound), 300 + 700 * digit + draw.randrange(-50, 50))
            both = [{"image": image}, {"audio": sound}]
            cls.lines_of.append({"parts": [both[:1], both[1:], both][kind] + [{"text": "="}], "answer": str(digit), "all": both})
        cls.data = cls.lines_file("digits.jsonl", [{k: line[k] for k in ("parts", "answer")} for line in cls.lines_of])
        cls.pairs = cls.lines_file("pairs.jsonl", [{"parts": line["all"] + [{"text": "="}], "answer": line["answer"]}
                                                   for line in cls.lines_of])

    @classmethod
    def lines_file(cls, name, lines):
        path = os.path.join(cls.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def file(self, name, text=""):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    @staticmethod
    def lines(path):
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()

    def refused(self, status, words, *arguments):
        done = run(*arguments)
        self.assert_error(done, status)
        self.assertRegex(done.stderr, words)
