"""Each tool's page names the options that --help shows, and no others."""

import os
import re
import unittest

from hone_cli import ROOT, run, tools


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
                    yield name, file.read(), run(name, "--help", check=True).stdout

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

    def test_help_goes_to_stdout_with_an_example(self):
        for name in tools():
            done = run(name, "--help", check=True)
            self.assertEqual(done.stderr, "")
            self.assertIn("Example:", done.stdout)
            self.assertRegex(run(name, "--version", check=True).stdout, r"\(hone \d+\.\d+")


if __name__ == "__main__":
    unittest.main()
