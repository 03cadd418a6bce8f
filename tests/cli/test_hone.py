"""`hone TOOL`, and what is installed beside the tools: man pages and completions, which have every option of --help."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from hone_cli import CliTest, help_of, run, tiny_model, tool, tools, write
from test_docs import options_of


class Front(CliTest):
    def test_it_is_the_tool(self):
        model = tiny_model(self.directory)
        direct, front = run("inspect", model, "--format", "json"), run("hone", "inspect", model, "--format", "json")
        self.assertEqual((front.returncode, front.stdout), (0, direct.stdout))
        text = run("hone", "generate", model, "--prompt", "-", "--tokens", 3, stdin="the river", check=True).stdout
        self.assertEqual(text, run("generate", model, "--prompt", "-", "--tokens", 3, stdin="the river", check=True).stdout)
        self.assert_error(run("hone", "eval", self.path("none.h5"), "--data", write(self.path("t"), "text")), 3, "none.h5")

    def test_the_tool_speaks_of_itself_as_it_was_called(self):
        self.assert_error(run("hone", "train", "--stepz", "--output", self.path("m.h5")), 2, "did you mean '--steps'?; see hone train --help")
        for arguments in (["train", "--help"], ["help", "train"]):
            text = run("hone", *arguments, check=True).stdout
            self.assertIn("Usage: hone train --output FILE", text)
            self.assertIn("\n  hone train --data corpus.txt", text)
        self.assertRegex(run("hone", "train", "--version", check=True).stdout, r"^hone train \(hone ")

    def test_help_names_every_tool_on_its_line(self):
        text = run("hone", "--help", check=True).stdout
        self.assertEqual(text, run("hone", "help", check=True).stdout)
        self.assertEqual(sorted(re.findall(r"^  (\w+) {2,}[A-Z]", text, re.M)), tools())
        for name in tools():
            summary = re.match(r".*?\.\n\n?Usage", help_of(name, 200), re.S).group(0).split("Usage")[0]
            self.assertIn(summary.split()[0], text)
        self.assertLessEqual(max(map(len, run("hone", "--help", env={"COLUMNS": 60}).stdout.splitlines())), 80)
        self.assertRegex(run("hone", "--version", check=True).stdout, r"^hone \d")

    def test_what_is_no_tool(self):
        for word, parts in (("evl", ["'evl'", "did you mean 'eval'?"]), ("quantise", ["'quantize'"]), ("zzz", ["'zzz' is no tool"]),
                            ("--quiet", ["unknown option '--quiet'"]), ("", ["'' is no tool"]), ("../eval", ["no tool"])):
            with self.subTest(word):
                self.assert_error(run("hone", word), 2, *parts, "hone --help")
        self.assert_error(run("hone"), 2, "no tool given")
        self.assert_error(run("hone", "help", "evl"), 2, "'eval'")

    def test_installed_it_takes_no_program_of_another(self):
        installed = shutil.copy(tool("hone"), self.path("hone"))
        write(self.path("eval"), "#!/bin/sh\necho theirs\n")
        os.chmod(self.path("eval"), 0o755)
        done = subprocess.run([installed, "eval"], capture_output=True, text=True)
        self.assert_error(done, 3, "hone-eval", "not installed beside hone")
        os.symlink(tool("eval"), self.path("hone-eval"))
        self.assertEqual(subprocess.run([installed, "eval", "--version"], capture_output=True, text=True).returncode, 0)
        link = self.path("link")
        os.symlink(tool("hone"), link)
        self.assertEqual(subprocess.run([link, "eval", "--version"], capture_output=True, text=True).returncode, 0)

    def test_a_full_device(self):
        for option in ("--help", "--version"):
            with open("/dev/full", "w") as full:
                done = subprocess.run([tool("hone"), option], stdout=full, stderr=subprocess.PIPE, text=True)
                self.assert_error(done, 3, "standard output")


class Manual(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="hone-test-")
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.help = {name: help_of(name) for name in tools()}
        cls.said = [run(name, "--write-manual", os.path.join(cls.directory, "share"), check=True).stdout for name in ["hone", *tools()]]

    def text(self, pattern, name):
        with open(os.path.join(self.directory, "share", pattern.format(name)), encoding="utf-8") as file:
            return file.read()

    def test_they_are_files_and_nothing_on_stdout(self):
        self.assertEqual(set(self.said), {""})

    def test_every_option_stands_everywhere(self):
        for name in tools():
            page = self.text("man/man1/hone-{}.1", name).replace("\\-", "-")
            bash = self.text("bash-completion/completions/hone-{}", name)
            zsh = self.text("zsh/site-functions/_hone-{}", name)
            fish = self.text("fish/vendor_completions.d/hone-{}.fish", name)
            options = options_of(self.help[name])
            self.assertGreater(len(options), 8)
            for option in options:
                with self.subTest(tool=name, option=option):
                    self.assertIn(f"\\fB{option}\\fR", page)
                    self.assertRegex(bash, rf"[ ']{option}[ ']")
                    self.assertRegex(zsh, rf"\){option}=?\[|\*{option}=\[")
                    self.assertRegex(fish, rf" -l {option[2:]} ")
            named = set(re.findall(r"\\fB(--[\w-]+)\\fR", page))
            self.assertEqual(named, options)

    def test_pages_have_their_sections(self):
        for name in ["hone", *(f"hone-{name}" for name in tools())]:
            page = self.text("man/man1/{}.1", name)
            self.assertEqual([s for s in re.findall(r"^\.SH (.*)$", page, re.M) if s != "TOOLS"],
                             ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"])
            self.assertIn(f"\n{name.replace('-', chr(92) + '-')} \\- ", page)

    def test_what_reads_them_finds_nothing_wrong(self):
        for name in ["hone", *(f"hone-{name}" for name in tools())]:
            page = os.path.join(self.directory, "share/man/man1", name + ".1")
            if shutil.which("groff"):
                done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
            if shutil.which("mandoc"):
                done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stdout), (0, ""))
            for shell, pattern in (("bash", "bash-completion/completions/{}"), ("zsh", "zsh/site-functions/_{}"),
                                   ("fish", "fish/vendor_completions.d/{}.fish")):
                if shutil.which(shell):
                    script = os.path.join(self.directory, "share", pattern.format(name))
                    done = subprocess.run([shell, "-n", script], capture_output=True, text=True)
                    self.assertEqual((done.returncode, done.stderr), (0, ""))

    def complete(self, line):
        """What bash offers at the end of the line."""
        words = re.findall(r"=|[^ =]+", line) + ([""] if line.endswith(" ") else [])
        script = (". share/bash-completion/completions/" + words[0] + "; COMP_WORDS=(" + " ".join(f"'{word}'" for word in words) + "); "
                  f"COMP_CWORD={len(words) - 1}; _{words[0].replace('-', '_')} 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=self.directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        return set(done.stdout.split())

    def test_bash_completes(self):
        if not shutil.which("bash"):
            self.skipTest("no bash here")
        formats = {"table", "json", "jsonl", "csv", "md"}
        for command in ("hone-eval", "hone eval"):
            self.assertEqual(self.complete(command + " m.h5 --format "), formats)
            self.assertEqual(self.complete(command + " --format=js"), {"json", "jsonl"})
            self.assertEqual(self.complete(command + " --basel"), {"--baseline"})
            self.assertIn("--no-speed", self.complete(command + " --"))
            self.assertEqual(self.complete(command + " --data "), set())
        self.assertEqual(self.complete("hone-quantize m.h5 --group "), {"0", "32", "64", "128"})
        self.assertEqual(self.complete("hone-quantize m.h5 --prepare "), {"awq", "smooth"})
        self.assertEqual(self.complete("hone "), {*tools(), "help", "--help", "--version"})
        self.assertEqual(self.complete("hone qu"), {"quantize"})


if __name__ == "__main__":
    unittest.main()
