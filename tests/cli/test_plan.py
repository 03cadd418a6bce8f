"""bench --plan: what a step of training would take on many ranks."""

import unittest

from hone_cli import CliTest, run, run_json, tiny_model

SHAPE = "layers=4,dim=256,heads=4,context=128,vocab=256"
MACHINE = "flops=100G,bandwidth=10G,network=1G,latency=1e-6"


class Plans(CliTest):
    def rows(self, *plans, models=()):
        return run_json("bench", *models, *[x for plan in plans for x in ("--plan", plan)])["rows"]

    def test_several_beside_each_other(self):
        one, four, tensor = self.rows(f"batch=8,{SHAPE},{MACHINE}", f"ranks=4,batch=8,{SHAPE},{MACHINE}",
                                      f"ranks=4,tensor=2,batch=8,recompute=blocks,{SHAPE},{MACHINE},memory=1MB,tokens=1G,price=2")
        self.assertAlmostEqual(one["compute_seconds"], 4 * four["compute_seconds"])
        self.assertEqual(one["data_bytes"], 0)
        self.assertAlmostEqual(four["data_bytes"], 6 * four["parameters"])
        self.assertEqual((tensor["data"], tensor["tensor"], tensor["fits"]), (2, 2, "no"))
        self.assertLess(tensor["parameter_bytes"], 0.6 * four["parameter_bytes"])
        days = 1e9 / tensor["train_tokens_per_second"] / 86400
        self.assertAlmostEqual(tensor["run_days"], days)
        self.assertAlmostEqual(tensor["run_price"], days * 24 * 4 * 2)
        for row in (one, four, tensor):
            parts = ("compute_seconds", "update_seconds", "data_seconds", "tensor_seconds")
            self.assertAlmostEqual(row["step_seconds"], sum(row[part] for part in parts))
            self.assertEqual(row["limit"] + "_seconds", max(parts, key=row.get))
        table = run("bench", "--plan", f"ranks=4,batch=8,{SHAPE},{MACHINE}", check=True).stdout
        self.assertIn("step_seconds", table)

    def test_a_mixture(self):
        mixture = f"{SHAPE},experts=8,top_k=2,ffn=128,{MACHINE}"
        data, experts, uneven = self.rows(*(f"ranks=4,batch=8,{more}{mixture}" for more in ("", "expert=4,", "expert=4,balance=1.5,")))
        self.assertEqual((experts["expert"], experts["data"], experts["parameters"]), (4, 4, data["parameters"]))
        self.assertEqual(experts["expert_parameters"], 2 * 4 * 3 * 256 * 128)
        self.assertLess(experts["active_parameters"], 0.7 * experts["parameters"])
        self.assertLess(experts["rank_bytes"], data["rank_bytes"])
        self.assertLess(experts["data_bytes"], data["data_bytes"])
        self.assertEqual(data["expert_bytes"], 0)
        self.assertGreater(experts["expert_bytes"], 0)
        self.assertGreater(uneven["step_seconds"], experts["step_seconds"])
        self.assertAlmostEqual(uneven["step_seconds"],
                               sum(uneven[f"{part}_seconds"] for part in ("compute", "update", "data", "tensor", "expert")))

    def test_the_shape_of_a_file_and_the_ceilings_of_this_machine(self):
        model = tiny_model(self.directory)
        row, slower = self.rows("ranks=2,batch=4,network=1G", "ranks=2,batch=4,network=1G,efficiency=0.5", models=[model])
        self.assertEqual(row["parameters"], run_json("inspect", model)["parameters"])
        self.assertGreater(row["flops_per_second"], 1e8)
        self.assertGreater(row["bandwidth"], 1e8)
        self.assertAlmostEqual(slower["flops_per_second"], row["flops_per_second"] / 2)

    def test_what_cannot_be_is_refused(self):
        model = tiny_model(self.directory)
        for plan, *parts in (("ranks=4,batch=8", "network=BYTES"), ("rank=4", "'rank' is no key", "did you mean 'ranks'"), ("ranks", "KEY=VALUE"),
                             ("ranks=x", "ranks:", "'x'"), ("flops=-1", "flops:", "'-1'"), ("ranks=6,tensor=4,network=1G", "do not divide 6 ranks"),
                             ("ranks=4,tensor=4,heads=6,dim=384,network=1G", "6 heads"), ("ranks=5,network=1G", "32 sequences"),
                             ("precision=f16", "'f16'"), ("ranks=2,expert=2,network=1G", "the model is dense"), ("balance=0.5", "balance:"),
                             ("balance=2", "expert=2"), ("top_k=1", "experts=8"),
                             ("ranks=4,tensor=2,expert=2,experts=8,network=1G", "not both"), ("experts=4,top_k=5", "5"),
                             ("recompute=all", "recompute:"), ("heads=0", "heads:")):
            with self.subTest(plan):
                self.assert_error(run("bench", "--plan", plan), 2, f"--plan {plan}", *parts)
        self.assert_error(run("bench", "--plan", "rank=4"), 2, "there are ranks, tensor, expert, balance, batch, ", "latency, memory, tokens, price")
        self.assert_error(run("bench", model, "--plan", "layers=3"), 2, "has a shape already")
        self.assert_error(run("bench", model, model, "--plan", "batch=4"), 2, "one model file")
        self.assert_error(run("bench", "--kernels", "--plan", "batch=4"), 2, "--plan")
        done = run("bench", model, "--plan", "batch=4", "--cache-type", "int8", "--count", 5, "--exit-fill", "exact", "--dry-run",
                   check=True)
        self.assertIn("--cache-type and --exit-fill have no effect with --plan", done.stderr)
        self.assertIn("--count has no effect without --requests", done.stderr)


if __name__ == "__main__":
    unittest.main()
