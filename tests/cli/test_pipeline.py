"""The chain of commands that the README promises, as one shell line, and what each stage hands to the next."""

import os
import subprocess
import unittest

import numpy as np

from hone_cli import BIN, corpus, run, run_json
from model_files import LINEAR, ModelTest, lineage, parameters, sha256


class Pipeline(ModelTest):
    """Dense, pruned by Wanda, recovered, quantized; made once."""

    SIZES = "--layers 2 --dim 64 --heads 2 --ffn 192 --context 32 --batch 16"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.test = corpus(cls.shared, "test.txt", count=60, first=5000)
        chain = f"""
            train --data corpus.txt --valid-fraction 0.1 {cls.SIZES} --steps 150 --lr 0.003 --output dense.h5 &&
            prune dense.h5 --output sparse.h5 --method wanda --sparsity 0.6 --calibration corpus.txt &&
            train --init sparse.h5 --data corpus.txt --batch 16 --steps 40 --lr 0.002 --output recovered.h5 &&
            quantize recovered.h5 --output small.h5 --type int8 --calibration corpus.txt"""
        environment = dict(os.environ, PATH=f"{os.path.abspath(BIN)}:{os.environ['PATH']}")
        environment.pop("GOMP_SPINCOUNT")  # as in a user's shell (hone_cli.py)
        cls.done = subprocess.run(["bash", "-c", chain], cwd=cls.shared, env=environment, capture_output=True, text=True)

    def path(self, name):
        return os.path.join(self.shared, name)

    def test_the_chain_succeeds_and_prints_a_line_a_model(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        self.assertEqual([line.split()[0] for line in self.done.stdout.splitlines()],
                         ["dense.h5", "sparse.h5", "recovered.h5", "small.h5"])

    def test_lineage(self):
        stages = ["dense.h5", "sparse.h5", "recovered.h5", "small.h5"]
        for i, name in enumerate(stages):
            entries = lineage(self.path(name))
            self.assertEqual([e["tool"] for e in entries], ["train", "prune", "train", "quantize"][: i + 1])
            self.assertEqual([e["parent_sha256"] for e in entries], [None, *(sha256(self.path(s)) for s in stages[:i])])

    def test_masks_go_through_all_stages(self):
        sparse, recovered, small = (parameters(self.path(f"{name}.h5")) for name in ("sparse", "recovered", "small"))
        for block in range(2):
            for name in (f"blocks.{block}.{part}" for part in LINEAR):
                kept = sparse[name].kept()
                self.assertTrue(np.array_equal(recovered[name].kept(), kept), name)
                self.assertFalse(recovered[name].values[~kept].any(), name)
                self.assertEqual(small[name].form, "bitmask")
                self.assertEqual(np.unpackbits(small[name].arrays["mask"].view(np.uint8)).sum(), kept.sum())

    def test_small_is_small(self):
        sizes = {name: os.path.getsize(self.path(f"{name}.h5")) for name in ("dense", "sparse", "small")}
        self.assertLess(sizes["small"], sizes["dense"] / 4)

    def test_eval_requires(self):
        requirements = ["bits_per_byte <= 1.1*baseline", "accuracy >= 90%*baseline", "file_bytes <= baseline/4"]
        done = run("eval", self.path("small.h5"), "--data", self.test, "--baseline", self.path("dense.h5"),
                   *[x for r in requirements for x in ("--require", r)])
        self.assertEqual(done.returncode, 0, done.stderr)
        done = run("eval", self.path("small.h5"), "--data", self.test, "--baseline", self.path("dense.h5"), "--require",
                   "bits_per_byte <= 0.5*baseline")
        self.assertEqual(done.returncode, 4, done.stderr)

    def test_recovery_recovers(self):
        report = run_json("eval", *[self.path(f"{n}.h5") for n in ("dense", "sparse", "recovered", "small")], "--data", self.test)
        loss = {os.path.basename(row["model"]): row["loss"] for row in report["rows"]}
        self.assertLess(loss["recovered.h5"], loss["sparse.h5"])
        self.assertAlmostEqual(loss["small.h5"], loss["recovered.h5"], delta=0.02 * loss["recovered.h5"])


if __name__ == "__main__":
    unittest.main()
