"""Each tool's page names the options that --help shows, and no others. Pages have lines that a terminal shows whole,
links that lead somewhere, and tables of results that are those of their data."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from hone_cli import ROOT, help_of, run, tools


def options_of(help_text):
    """The long options that a help text declares: at the start of its lines, behind a short form or another long one.
    What a description wraps to stands further right."""
    found = set()
    for line in help_text.splitlines():
        match = re.match(r"\s{2,6}((?:-\w,\s*)?--[\w-]+(?:,\s*!?--[\w-]+)*)", line)
        if match:
            found.update(re.findall(r"--[\w-]+", match.group(1)))
    return found


class Docs(unittest.TestCase):
    def pages(self):
        for name in tools():
            path = os.path.join(ROOT, "docs", name + ".md")
            if os.path.exists(path):
                with open(path) as file:
                    yield name, file.read(), help_of(name)

    def test_there_are_pages_and_options(self):
        pages = list(self.pages())
        self.assertTrue({"eval", "generate", "inspect"} <= {name for name, _, _ in pages})
        for name, _, help_text in pages:
            self.assertTrue({"--help", "--version", "--threads", "--seed"} <= options_of(help_text), name)

    def test_every_option_has_its_place_in_the_page(self):
        for name, page, help_text in self.pages():
            named = set(re.findall(r"`[^`]*?(--[\w-]+)", page)) | set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page))
            for option in options_of(help_text):
                with self.subTest(tool=name, option=option):
                    self.assertIn(option, named)

    def test_every_option_in_a_table_of_the_page_exists(self):
        for name, page, help_text in self.pages():
            declared = options_of(help_text)
            for line in page.splitlines():
                match = re.match(r"\|\s*`([^`]*)`", line)
                if match:
                    for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", match.group(1)):
                        with self.subTest(tool=name, option=option):
                            self.assertIn(option, declared)

    def test_defaults_in_a_page_are_those_of_help(self):
        """Of numbers and single words; what a page tells in a sentence is for people."""
        units, compared = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}, 0
        for name, page, _ in self.pages():
            help_text = help_of(name, 400)
            defaults = {option: default for names, default in
                        re.findall(r"^ {2,6}(?:-\w,\s*)?(--[\w,-]+) [^\s=]*=([^\s;]+)", help_text, re.M) for option in names.split(",")}
            for row in page.partition("## Options")[2].splitlines():
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)]
                options = re.findall(r"--[a-z][\w-]*", cells[1]) if len(cells) > 3 else []
                said = re.split(r"[,;] ", cells[2]) if options else []
                if len(said) == 1:
                    said *= len(options)
                for option, default in zip(options, said) if len(said) == len(options) else []:
                    size = re.fullmatch(r"(\d+) ?(KiB|MiB|GiB)", default)
                    default = str(int(size[1]) * units[size[2]]) if size else default.strip("`")
                    if option in defaults and default and " " not in default:
                        compared += 1
                        with self.subTest(tool=name, option=option):
                            self.assertEqual(default, defaults[option])
        self.assertGreater(compared, 100)

    def test_what_is_a_file_in_a_page_is_one_in_help(self):
        """By which completions know that they are to name files."""
        for name, page, _ in self.pages():
            help_text = help_of(name, 400)
            files = re.findall(r"^\| [^|]*`(--[\w-]+) FILE(?:\.\.\.)?`", page.partition("## Options")[2], re.M)
            self.assertTrue(files or name in ("inspect", "convert"), name)
            others = [option for option in files if not re.search(rf"(?m)^ +(?:-\w,\s*)?{option} FILE\b", help_text)]
            self.assertEqual(others, [], name)

    def test_each_way_to_divide_a_model_is_in_help_and_on_its_page(self):
        ways = [name[:-4] for name in os.listdir(os.path.join(ROOT, "lib", "model", "divisions"))]
        self.assertIn("tensor", ways)
        texts = {name: help_of(name) for name in ("train", "eval", "generate")}
        with open(os.path.join(ROOT, "docs", "parallel.md")) as file:
            texts["parallel.md"] = file.read()
        for way in ways:
            for name, text in texts.items():
                self.assertIn(f"{way}:2", text, name)
            self.assertIn(f"data:2,{way}:2", texts["train"])
        self.assertIn("tensor:2", help_of("bench"))

    def test_help_goes_to_stdout_with_an_example(self):
        for name in tools():
            done = run(name, "--help", check=True)
            self.assertEqual(done.stderr, "")
            self.assertIn("Example:", done.stdout)
            self.assertRegex(run(name, "--version", check=True).stdout, r"\(hone \d+\.\d+")


def markdown():
    """Every page: its path and its text."""
    for path in sorted(glob.glob(os.path.join(ROOT, "*.md")) + glob.glob(os.path.join(ROOT, "data", "*.md")) +
                       glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True)):
        with open(path, encoding="utf-8") as file:
            yield path, file.read()


class Pages(unittest.TestCase):
    WIDTH = 120

    def test_lines_are_not_too_long(self):
        pages = list(markdown())
        self.assertGreater(len(pages), 20)
        long = [f"{os.path.relpath(path, ROOT)}:{number}: {len(line)} characters" for path, text in pages
                for number, line in enumerate(text.split("\n"), 1) if len(line) > self.WIDTH]
        self.assertEqual(long, [])

    def test_links_lead_somewhere(self):
        anchors = {}
        for path, text in markdown():
            titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            names = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            anchors[path] = names | set(re.findall(r'<a id="([^"]+)">', text))
        for path, text in markdown():
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"https?://", link):
                    continue
                with self.subTest(page=os.path.relpath(path, ROOT), link=link):
                    file, _, anchor = link.partition("#")
                    target = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
                    self.assertTrue(os.path.exists(target))
                    if anchor:
                        self.assertIn(anchor, anchors[target])

    def test_files_that_the_architecture_names_exist(self):
        with open(os.path.join(ROOT, "docs", "architecture.md"), encoding="utf-8") as file:
            named = set(re.findall(r"`([\w/]+\.(?:h|cpp|cmake|py|sh|txt|jsonl))`", file.read()))
        named = {name for name in named if "/" in name and not re.search("NAME|PAGE", name)}
        self.assertGreater(len(named), 20)
        for name in sorted(named):
            with self.subTest(file=name):
                places = [os.path.join(ROOT, name), os.path.join(ROOT, "lib", name), os.path.join(ROOT, "lib/kernels", name)]
                self.assertTrue(any(os.path.exists(place) for place in places))


class Results(unittest.TestCase):
    FOLDER = os.path.join(ROOT, "docs", "results")

    def render(self, *arguments, folder=FOLDER):
        return subprocess.run([sys.executable, os.path.join(folder, "render.py"), *arguments], capture_output=True, text=True)

    def test_tables_are_those_of_the_data(self):
        done = self.render("--check")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_a_changed_number_is_found(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = shutil.copytree(self.FOLDER, os.path.join(scratch, "results"))
            page = os.path.join(folder, "changes.md")
            with open(page, encoding="utf-8") as file:
                text = file.read()
            changed = text.replace("| 1.035 |", "| 1.036 |")
            self.assertNotEqual(changed, text)
            with open(page, "w", encoding="utf-8") as file:
                file.write(changed)
            done = self.render("--check", folder=folder)
            self.assertEqual(done.returncode, 1)
            self.assertIn("1.036", done.stdout)
            self.assertEqual(self.render(folder=folder).returncode, 0)
            with open(page, encoding="utf-8") as file:
                self.assertEqual(file.read(), text)

    def test_a_table_without_data_is_found(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = shutil.copytree(self.FOLDER, os.path.join(scratch, "results"))
            with open(os.path.join(folder, "depth.md"), "a", encoding="utf-8") as file:
                file.write("\n| goal | number |\n|---|---|\n| speed | 2 |\n")
            done = self.render("--check", folder=folder)
            self.assertEqual(done.returncode, 1)
            self.assertIn("| goal | number |", done.stderr)

    def test_rows_as_bench_prints_them_become_a_table(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = os.path.join(scratch, "results")
            os.makedirs(os.path.join(folder, "data"))
            shutil.copy(os.path.join(self.FOLDER, "render.py"), folder)
            columns = [["model", "model"], ["decode_tokens_per_second", "tokens/s", ".0f"], ["bandwidth_fraction", "%", ".1f", 100]]
            rows = [{"table": "speed", "source": "bench --format jsonl", "columns": columns},
                    {"schema_version": 1, "table": "speed", "model": "a.h5", "decode_tokens_per_second": 115.4321, "bandwidth_fraction": 0.78649},
                    {"table": "speed", "model": "b.h5", "bandwidth_fraction": None}]
            with open(os.path.join(folder, "data", "speeds.jsonl"), "w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            page = os.path.join(folder, "speeds.md")
            with open(page, "w", encoding="utf-8") as file:
                file.write("# Speeds\n\n<!-- table: speed -->\n\nThe end.\n")
            self.assertEqual(self.render("--check", folder=folder).returncode, 1)
            self.assertEqual(self.render(folder=folder).returncode, 0)
            with open(page, encoding="utf-8") as file:
                self.assertIn("| model | tokens/s | % |\n|---|---|---|\n| a.h5 | 115 | 78.6 |\n| b.h5 | | |\n\nThe end.", file.read())
            self.assertEqual(self.render("--check", folder=folder).returncode, 0)

    def test_each_number_of_the_index_stands_in_its_page(self):
        with open(os.path.join(self.FOLDER, "README.md"), encoding="utf-8") as file:
            rows = re.findall(r"^\| ([^|]+) \| (-?[\d.]+) \|.*\(([\w-]+\.md)(?:#[\w-]+)?\) \|$", file.read(), re.MULTILINE)
        self.assertGreater(len(rows), 30)
        for claim, number, page in rows:
            with self.subTest(claim=claim):
                with open(os.path.join(self.FOLDER, page), encoding="utf-8") as file:
                    stands = re.search(rf"(?<![\d.]){re.escape(number)}(?![\d]|\.\d)", file.read())
                self.assertTrue(stands, f"{number} does not stand in {page}")


if __name__ == "__main__":
    unittest.main()
