"""Put the tables of ``fcunet-dask evaluate --out OUT`` into docs/evaluation.md.

python benchmarks/evaluate_docs.py OUT
"""

import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "evaluation.md"
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"


def main(out):
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    tables = (Path(out) / "report.md").read_text()
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1])
