"""What images and sounds have in common and of their own: contrastive losses, retrieval, weights by kind of part, times."""

import json
import os
import signal
import subprocess
import time
import unittest

from hone_cli import run, run_json, tool
from media_files import SHAPE, MediaTest
from model_files import log_lines, parameters


class Alignment(MediaTest):
    def trained(self, output, *options, data=None):
        path = os.path.join(self.folder, output)
        run("train", "--data", data or self.pairs, *SHAPE, "--loss", "answers", "--batch", 16, "--lr", 3e-3, "--precision", "f32",
            "-t", 1, "--output", path, *options, check=True)
        return path

    def test_each_finds_the_other_by_what_it_shows(self):
        for loss in ("infonce", "siglip"):
            log = self.path(f"{loss}.log")
            model = self.trained(f"{loss}.h5", "--contrastive", 1, "--contrastive-loss", loss, "--steps", 80, "--log", log, "--log-every", 1)
            lines = log_lines(log)
            for line in lines:
                self.assertEqual(line["pairs"], 16)
                self.assertEqual(line["padding_fraction"], 0)
                # Of each pair the sound is read once more, alone.
                self.assertEqual(line["encoders"]["audio"]["parts"], 32)
                self.assertEqual(line["encoders"]["image"]["parts"], 16)
            self.assertLess(lines[-1]["terms"]["contrastive"], lines[0]["terms"]["contrastive"])
            row = run_json("eval", model, "--data", self.pairs, "--retrieval")["rows"][0]
            self.assertEqual(row["pairs"], 48)
            for way in ("image_to_audio", "audio_to_image"):
                self.assertGreaterEqual(row[f"class_recall_at_1_{way}"], 0.9, loss)
                self.assertGreaterEqual(row[f"recall_at_10_{way}"], row[f"recall_at_1_{way}"])
                self.assertEqual(row[f"class_median_rank_{way}"], 1)
            self.assertIn("alignment.scale", parameters(model))
        again = run_json("eval", model, "--data", self.pairs, "--retrieval", "-t", 2)["rows"][0]
        self.assertEqual({k: v for k, v in again.items() if "recall" in k}, {k: v for k, v in row.items() if "recall" in k})
        shown = run("inspect", model, check=True).stdout
        self.assertIn("aligned", shown)
        require = ["eval", model, "--data", self.pairs, "--retrieval", "--require"]
        self.assertEqual(run(*require, "class_recall_at_1_image_to_audio >= 0.5").returncode, 0)
        self.refused(4, "1 of 1 requirement failed", *require, "class_median_rank_audio_to_image < 1")
        unanswered = self.lines_file("unanswered.jsonl", [{"parts": line["all"]} for line in self.lines_of[:8]])
        self.refused(2, "class_recall_at_1_image_to_audio is measured where all examples have an answer", "eval", model, "--data",
                     unanswered, "--retrieval", "--require", "class_recall_at_1_image_to_audio >= 0")
        self.refused(2, "expected a metric.*class_median_rank_audio_to_image", *require, "accuracy > 0.5")

    def test_a_model_that_has_not_learned_it_finds_nothing_in_particular(self):
        model = self.trained("unaligned.h5", "--steps", 1)
        done = run("eval", model, "--data", self.pairs, "--retrieval", "--format", "json", check=True)
        self.assertIn("has not learned to find one by the other", done.stderr)
        self.assertLess(json.loads(done.stdout)["rows"][0]["recall_at_1_image_to_audio"], 0.5)
        # And learns it afterwards, with a new scale.
        aligned = os.path.join(self.folder, "later.h5")
        run("train", "--init", model, "--data", self.pairs, "--contrastive", "0.5:audio,image", "--steps", 2, "--batch", 4, "--output",
            aligned, check=True)
        self.assertEqual(run_json("inspect", aligned)["config"]["aligned"], ["audio", "image"])

    def test_contrasts_that_cannot_be(self):
        def train(*options, data=self.pairs, shape=SHAPE):
            return ["train", "--data", data, *shape, "--steps", 1, "--output", self.path("x.h5"), *options]

        self.refused(2, "--contrastive tells the pairs of a batch from each other.*--batch", *train("--contrastive", 1, "--batch", 1))
        for wrong in ("0", "-1", "x", "1:image", "1:image,image", "1:image,video", "nan"):
            self.refused(2, f"--contrastive '{wrong}'", *train("--contrastive", wrong))
        self.refused(2, "--contrastive-loss has no effect", *train("--contrastive-loss", "siglip"))
        self.refused(2, "no encoder", *train("--contrastive", 1, data=self.lines_file("images.jsonl", [
            {"parts": [{"image": f"{i}.png"}], "answer": "1"} for i in range(4)]), shape=SHAPE[:12]))
        one = self.lines_file("one.jsonl", [{"parts": [{"image": "0.png"}, {"audio": "0.wav"}], "answer": "0"},
                                            {"parts": [{"image": "1.png"}], "answer": "1"}])
        self.refused(3, "one.jsonl: 1 of 2 examples has both, image and audio", *train("--contrastive", 1, data=one))
        self.refused(2, "no effect on windows of text", *train("--contrastive", 1, data=self.corpus))
        done = run(*train("--contrastive", 1, "--batch", 3, data=self.data))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("16 of 48 examples have image and audio", done.stderr)
        model = self.trained("plain.h5", "--steps", 1)
        self.refused(3, "which have 1 of the one and 1 of the other", "eval", model, "--data", one, "--retrieval")
        self.refused(2, "--answers does not go with --retrieval", "eval", model, "--data", one, "--retrieval", "--answers")
        text = self.path("text.h5")
        run("train", *SHAPE[:10], "--steps", 0, "--output", text, check=True)
        self.refused(2, "has no encoder for image", "eval", text, "--data", self.pairs, "--retrieval")

    def test_a_run_with_media_that_is_interrupted_ends_as_if_it_had_not_been(self):
        options = ["--data", self.data, *SHAPE, "--media-attention", "both", "--loss", "answers", "--batch", 5, "--steps", 60,
                   "--augment-image", "rotate:5", "--augment-audio", "gain:6,masks:1", "--contrastive", 0.3, "--modality-experts", "ffn",
                   "--dropout", 0.1, "-t", 1]
        straight, output, checkpoint = self.path("straight.h5"), self.path("out.h5"), self.path("c.h5")
        run("train", *options, "--output", straight, check=True)
        files = ["--checkpoint", checkpoint, "--save-every", 4, "--output", output]
        process = subprocess.Popen([tool("train"), *map(str, options + files)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        while not os.path.exists(checkpoint) and process.poll() is None:
            time.sleep(0.002)
        self.assertIsNone(process.poll(), "the run ended before it was stopped: make it longer")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, said)
        self.assertFalse(os.path.exists(output))
        resumed = run("train", *options, *files, "--resume", checkpoint, check=True)
        self.assertIn("60 steps", resumed.stderr)
        self.assert_same_parameters(straight, output)
        # Another augmentation, or another weight of the contrast, would be another run.
        for other in (["--augment-image", "rotate:6"], ["--contrastive", 0.4]):
            changed = [o for o in options if o not in ("--augment-image", "rotate:5")] if other[0] == "--augment-image" else \
                [o for o in options if o not in ("--contrastive", 0.3)]
            self.refused(2, "differs from the checkpoint's", "train", *changed, *other, "--checkpoint", checkpoint, "--resume", checkpoint,
                         "--output", self.path("again.h5"))

    def test_weights_by_kind_of_part_go_through_every_tool(self):
        for which, matrices in (("ffn", 2), ("all", 4)):
            model = self.trained(f"{which}.h5", "--modality-experts", which, "--media-attention", "both", "--steps", 120, data=self.data)
            names = parameters(model)
            self.assertEqual(sum(name.endswith(".audio.weight") and "blocks" in name for name in names), 2 * matrices)
            self.assertEqual("blocks.0.attention_norm.image.gain" in names, which == "all")
            sparse, small = (os.path.join(self.folder, f"{which}.{kind}.h5") for kind in ("sparse", "small"))
            run("prune", model, "--output", sparse, "--method", "wanda", "--sparsity", 0.3, "--calibration", self.data, check=True)
            for name, stored in parameters(sparse).items():
                if "blocks" in name and "weight" in name:
                    self.assertGreater((stored.values == 0).mean(), 0.25, name)
            run("quantize", sparse, "--output", small, "--type", "int8", "--calibration", self.data, "--method", "gptq", check=True)
            for path, least in ((model, 0.9), (small, 0.8)):
                row = run_json("eval", path, "--data", self.data, "--answers", "--no-speed")["rows"][0]
                for kind in ("image", "audio", "image_audio"):
                    self.assertGreaterEqual(row[f"accuracy_{kind}"], least, f"{which} {kind}")
            for option, name in (("--image", "2.png"), ("--audio", "18.wav")):
                done = run("generate", small, option, os.path.join(self.folder, name), "--prompt", "=", "--tokens", 1, "--temperature", 0,
                           check=True)
                self.assertEqual(done.stdout.strip(), "2")
            shown = run_json("inspect", model)
            self.assertLess(shown["active_parameters"], shown["parameters"])
            self.assertEqual(shown["config"]["layers"][0]["modality_experts"], which)
            self.refused(2, "weights of their own", "prune", model, "--output", self.path("x.h5"), "--structure", "heads:1",
                         "--calibration", self.corpus)
        self.refused(2, "--modality-experts needs", "train", *SHAPE[:10], "--modality-experts", "ffn", "--steps", 0, "--output", self.path("x.h5"))
        self.refused(2, "--modality-experts", "train", *SHAPE, "--modality-experts", "some", "--steps", 0, "--output", self.path("x.h5"))
        self.refused(2, "not both", "train", *SHAPE, "--modality-experts", "ffn", "--experts", 8, "--steps", 0, "--output", self.path("x.h5"))
        self.refused(2, "--modality-experts describes a new model", "train", "--init", model, "--modality-experts", "ffn", "--steps", 0,
                     "--output", self.path("x.h5"))

    def test_bench_times_what_comes_before_the_text(self):
        model = self.trained("timed.h5", "--steps", 0)
        row = run_json("bench", model, "--parts", "image,audio", "--prompt", 3, "--repeat", 2, "-t", 1)["rows"][0]
        self.assertEqual(row["parts"], "image,audio")
        # 12 x 12 pixels in patches of 3 x 4; a second of 98 frames in 49 rows; delimiters around both.
        self.assertEqual((row["image_rows"], row["audio_rows"], row["rows"]), (14, 51, 68))
        for name in ("image_features_ms", "image_encoder_ms", "audio_features_ms", "audio_encoder_ms"):
            self.assertGreater(row[name], 0)
            self.assertLess(row[name], row["first_token_ms"])
        alone = run_json("bench", model, "--parts", "audio", "--prompt", 3, "--repeat", 1, "-t", 1)["rows"][0]
        self.assertNotIn("image_encoder_ms", alone)
        # Sequences of 3 tokens, and of each part and a token.
        steps = run_json("bench", model, "--train", "--parts", "image,audio", "--prompt", 3, "--batch", 2, "--steps", 1, "--repeat", 1,
                         "-t", 1)["rows"][0]
        self.assertEqual((steps["parts"], steps["rows"]), ("image,audio", 2 * (3 + 15 + 52)))
        self.assertAlmostEqual(steps["over_separate"], steps["step_ms"] / steps["separate_ms"], delta=0.01)
        self.refused(2, "--attention does not go with --parts", "bench", model, "--parts", "image", "--attention", "full")
        self.refused(2, "--parts", "bench", model, "--parts", "video")
        text = self.path("text.h5")
        run("train", *SHAPE[:10], "--steps", 0, "--output", text, check=True)
        self.refused(2, "has no encoder for image", "bench", text, "--parts", "image")


if __name__ == "__main__":
    unittest.main()
