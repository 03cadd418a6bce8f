#!/usr/bin/env python3
"""Writes the tables of these pages from data/*.jsonl.

    render.py            data to pages
    render.py --check    says what differs; status 1
    render.py --take     tables that were written by hand into a page become data, marked as transcribed

In a page a table follows a line `<!-- table: NAME -->`. In data/PAGE.jsonl the line {"table": NAME, "columns": [[key, header],
…], …} begins it, and each line {"table": NAME, key: value, …} behind is a row; members that no column names are not shown. A
column may be [key, header, format, factor]: ["bandwidth_fraction", "of the bandwidth, %", ".1f", 100] for what `bench` prints.
Numbers without a format are shown digit for digit as they stand in the data.
"""

import glob
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MARKER = re.compile(r"<!-- table: ([\w-]+) -->")
RULE = re.compile(r"\|(-+\|)+")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


class Literal(str):
    """A number with its digits."""


def read_data(path):
    """The tables of a file, in order: name -> (header, rows)."""
    tables = {}
    if not os.path.exists(path):
        return tables
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line, parse_float=Literal, parse_int=Literal)
            name = row.get("table")
            if "columns" in row:
                if name in tables:
                    sys.exit(f"error: {path}:{number}: table '{name}' begins a second time")
                tables[name] = (row, [])
            elif name in tables:
                tables[name][1].append(row)
            else:
                sys.exit(f"error: {path}:{number}: a row of table '{name}', which has not begun")
    return tables


def dump(value):
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dump(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def cell(row, column):
    value = row.get(column[0])
    if value is None:
        return ""
    if len(column) > 2:
        return format(float(value) * float(column[3] if len(column) > 3 else 1), column[2])
    return str(value)


def line_of(cells):
    return ("| " + " | ".join(cells) + " |").replace("|  |", "| |").replace("|  |", "| |")


def lines_of(header, rows):
    columns = header["columns"]
    return [line_of([column[1] for column in columns]), "|" + "---|" * len(columns)] + [
        line_of([cell(row, column) for column in columns]) for row in rows]


def parts(text):
    """A page as lines outside of tables, and tables: (name or None, lines)."""
    found, lines, index = [], text.split("\n"), 0
    while index < len(lines):
        match = MARKER.fullmatch(lines[index])
        found.append((None, [lines[index]]))
        index += 1
        if match:
            first = index
            while index < len(lines) and lines[index].startswith("|"):
                index += 1
            found.append((match.group(1), lines[first:index]))
    return found


def cells_of(line):
    return [part.strip() for part in line.strip().strip("|").split("|")]


def take(name, lines, tables):
    """A table as it stands in a page, into `tables`."""
    headers = cells_of(lines[0])
    known = tables.get(name, ({"columns": []}, []))[0]
    if any(len(column) > 2 for column in known["columns"]):
        return  # a page has fewer digits than its data
    if [column[1] for column in known["columns"]] == headers:
        header = known
    else:
        keys = []
        for text in headers:
            key = re.sub(r"\W+", "_", text.lower()).strip("_") or "column"
            while key in keys:
                key += "_2"
            keys.append(key)
        header = {"table": name, "source": "transcribed", "columns": [[k, h] for k, h in zip(keys, headers)]}
    rows = []
    for line in lines[2:]:
        row = {"table": name}
        for column, text in zip(header["columns"], cells_of(line)):
            if text:
                row[column[0]] = Literal(text) if NUMBER.fullmatch(text) else text
        rows.append(row)
    tables[name] = (header, rows)


def main(mode):
    differs = 0
    for page in sorted(glob.glob(os.path.join(HERE, "*.md"))):
        name = os.path.splitext(os.path.basename(page))[0]
        path = os.path.join(HERE, "data", (name if name != "README" else "index") + ".jsonl")
        with open(page, encoding="utf-8") as file:
            text = file.read()
        tables, used, out = read_data(path), [], []
        for table, lines in parts(text):
            if table is None:
                if RULE.fullmatch(lines[0]):
                    sys.exit(f"error: {page}: the table '{out[-1]}' has no name and no data")
                out += lines
                continue
            if table in used:
                sys.exit(f"error: {page}: table '{table}' stands here twice")
            used.append(table)
            if mode == "--take" and len(lines) > 2:
                take(table, lines, tables)
            if table not in tables:
                sys.exit(f"error: {page}: {path} has no table '{table}'")
            out += lines_of(*tables[table])
        for table in set(tables) - set(used):
            sys.exit(f"error: {path}: table '{table}' stands in no page")
        if mode == "--take" and tables:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                for table in used:
                    header, rows = tables[table]
                    file.writelines(dump(row) + "\n" for row in [header] + rows)
        rendered = "\n".join(out)
        if rendered == text:
            continue
        differs = 1
        if mode == "--check":
            for old, new in zip(text.split("\n"), out):
                if old != new:
                    print(f"{page}:\n  is         {old}\n  should be  {new}")
                    break
            else:
                print(f"{page}: the number of lines differs")
        else:
            with open(page, "w", encoding="utf-8") as file:
                file.write(rendered)
            print(f"wrote {page}")
    return differs if mode == "--check" else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if len(arguments) > 1 or (arguments and arguments[0] not in ("--check", "--take")):
        sys.exit("usage: render.py [--check | --take]")
    sys.exit(main(arguments[0] if arguments else ""))
