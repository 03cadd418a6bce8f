"""What `cmake --install` puts where: tools, headers, libraries, and a program of somebody else's that is built with them."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from hone_cli import BIN, CliTest, ROOT, run, run_json, tiny_model, write

BUILD = os.path.dirname(os.path.abspath(BIN))

PROGRAM = """\
#include <hone/model/store.h>

#include <cstdio>

int main(int, char** argv) {
  hone::Model model = hone::load_model(argv[1]);
  const hone::ModelSize size = hone::size_of(*model.transformer);
  std::printf("%lld %.3f\\n", static_cast<long long>(size.parameters), size.sparsity());
}
"""

PROJECT = """\
cmake_minimum_required(VERSION 3.22)
project(other CXX)
find_package(hone REQUIRED)
add_executable(other other.cpp)
target_link_libraries(other PRIVATE hone::hone)
"""


C_PROGRAM = """\
#include <hone/hone.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments) {
  hone_model *model = hone_load(arguments[1]);
  if (!model) return fprintf(stderr, "%s\\n", hone_error()), 3;
  int32_t ids[64];
  const int64_t tokens = hone_encode(model, "the river", 9, ids, 64), vocabulary = hone_vocabulary(model);
  float *logits = malloc((size_t)vocabulary * sizeof *logits);
  hone_session *text = hone_begin(model, 64);
  if (hone_feed(text, ids, tokens, logits) != 0) return fprintf(stderr, "%s\\n", hone_error()), 1;
  int64_t best = 0;
  for (int64_t i = 0; i < vocabulary; ++i)
    if (logits[i] > logits[best]) best = i;
  printf("%d %lld %lld\\n", count, (long long)hone_length(text), (long long)best);
  free(logits);
  hone_end(text);
  hone_free(model);
  return 0;
}
"""


def cmake(*arguments):
    return subprocess.run(["cmake", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=500)


class Install(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not shutil.which("cmake") or not os.path.exists(os.path.join(BUILD, "cmake_install.cmake")):
            raise unittest.SkipTest("no cmake here, or no build folder beside the tools: nothing can be installed")
        cls.prefix = tempfile.mkdtemp(prefix="hone-prefix-")
        cls.addClassCleanup(shutil.rmtree, cls.prefix, ignore_errors=True)
        done = cmake("--install", BUILD, "--prefix", cls.prefix)
        if done.returncode != 0:
            raise AssertionError(done.stdout)

    def test_tools_and_headers(self):
        tools = os.listdir(os.path.join(self.prefix, "bin"))
        names = sorted("hone" if name == "hone.cpp" else f"hone-{name[:-4]}" for name in os.listdir(os.path.join(ROOT, "tools"))
                       if name.endswith(".cpp"))
        self.assertEqual(sorted(tools), names)
        for folder, pattern in (("man/man1", "{}.1"), ("bash-completion/completions", "{}"), ("zsh/site-functions", "_{}"),
                                ("fish/vendor_completions.d", "{}.fish")):
            there = os.listdir(os.path.join(self.prefix, "share", folder))
            self.assertEqual(sorted(there), sorted(pattern.format(name) for name in names))
        said = subprocess.run([os.path.join(self.prefix, "bin/hone"), "inspect", "--version"], capture_output=True, text=True)
        self.assertRegex(said.stdout, r"^hone inspect \(hone ")
        include = os.path.join(self.prefix, "include")
        self.assertEqual(os.listdir(include), ["hone"])
        rooms = [name for name in os.listdir(os.path.join(ROOT, "lib")) if os.path.isdir(os.path.join(ROOT, "lib", name))]
        self.assertEqual(sorted(os.listdir(os.path.join(include, "hone"))), sorted({*rooms, "hone.h"} - {"cli", "c"}))
        installed = 0
        for folder, _, files in os.walk(include):
            for name in files:
                installed += 1
                with open(os.path.join(folder, name)) as file:
                    for header in re.findall(r'#include "([^"]+)"', file.read()):
                        self.assertTrue(os.path.exists(os.path.join(include, header)), f"{name} includes {header}")
        self.assertGreater(installed, 50)

    def test_a_program_of_somebody_else(self):
        if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
            self.skipTest("no compiler here")
        write(self.path("CMakeLists.txt"), PROJECT)
        write(self.path("other.cpp"), PROGRAM)
        done = cmake("-G", "Ninja", "-S", self.directory, "-B", self.path("build"), f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Release")
        self.assertEqual(done.returncode, 0, done.stdout)
        done = cmake("--build", self.path("build"))
        self.assertEqual(done.returncode, 0, done.stdout)
        model = tiny_model(self.directory)
        said = subprocess.run([self.path("build/other"), model], capture_output=True, text=True, timeout=60)
        self.assertEqual(said.returncode, 0, said.stderr)
        parameters, sparsity = said.stdout.split()
        known = run_json("inspect", model)
        self.assertEqual((int(parameters), float(sparsity)), (known["parameters"], known["sparsity"]))

    def test_a_program_in_c(self):
        compiler = shutil.which("gcc") or shutil.which("clang")
        if not compiler or not shutil.which("pkg-config"):
            self.skipTest("no C compiler or no pkg-config here")
        write(self.path("other.c"), C_PROGRAM)
        for folder, _, files in os.walk(self.prefix):
            if "hone.pc" in files:
                environment = dict(os.environ, PKG_CONFIG_PATH=folder)
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "hone"], env=environment, capture_output=True, text=True)
        self.assertEqual(flags.returncode, 0, flags.stderr)
        done = subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", self.path("other.c"), "-o",
                               self.path("other"), *flags.stdout.split()], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        model = tiny_model(self.directory)
        said = subprocess.run([self.path("other"), model], capture_output=True, text=True, timeout=60)
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        text = run("generate", model, "--prompt", "the river", "--tokens", 1, "--temperature", 0, "--precision", "f32", "--format", "json",
                   check=True).stdout
        self.assertEqual(said.stdout.split(), ["2", "9", str(ord(json.loads(text)["rows"][0]["text"][0]))])
        said = subprocess.run([self.path("other"), self.path("none.h5")], capture_output=True, text=True, timeout=60)
        self.assertEqual(said.returncode, 3)
        self.assertIn("none.h5", said.stderr)


if __name__ == "__main__":
    unittest.main()
