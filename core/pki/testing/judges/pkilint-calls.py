"""
Calls pkilint's own programs, many times in one process, since starting each takes longer than what it does.

In: a JSON array of [program, [argument, ...]]. Out: a JSON array of what each reported.
"""

import contextlib
import importlib
import io
import json
import sys


def call(program, arguments):
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        importlib.import_module(f"pkilint.bin.{program}").main(arguments)
    # What cannot be read is told on standard error, and there is no report: that ends the process.
    return json.loads(report.getvalue())["results"]


json.dump([call(*each) for each in json.load(sys.stdin)], sys.stdout)
