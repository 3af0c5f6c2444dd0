"""Markdown files as one plain, self-contained page: ``python -m shared.tables.page OUT.html IN.md ...``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shared.files import Sentence, read_text, sentence_of, write_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; font-size: 14px }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
th { border-bottom: 2px solid #888 }
h1 { font-size: 1.3rem; margin-top: 2.5rem } h2 { font-size: 1.1rem }
code { background: #f3f3f3; padding: 0 .2rem }
"""


def page(texts: list[str], title: str) -> str:
    """HTML of markdown texts, one after the other; raw HTML in them is shown, not obeyed."""
    from html import escape

    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = "\n".join(markdown.render(text) for text in texts)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'


def main(argv: list[str] | None = None) -> int:
    """Write the page; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.tables.page", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    args = parser.parse_args(argv)
    try:
        texts = [read_text(path, lambda said: Sentence(f"{said}; make it again")) for path in args.texts]
        write_text(args.out, page(texts, f"{args.out.parent.name}: {args.out.stem}"))
    except (Sentence, OSError) as error:
        print(sentence_of(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
