"""What the fault tests found, experiments/results/faults*.json, as text."""

import ast
import json
from pathlib import Path

_BAD_INPUT = Path(__file__).parent.parent / "tests" / "test_bad_input.py"

_WORDS = {
    "SIGKILL": "killed by SIGKILL at a random moment",
    "SIGTERM": "stopped by SIGTERM at a random moment",
    "SIGINT": "stopped by SIGINT at a random moment",
    "checkpoint truncated": "killed, the newest checkpoint cut to half",
    "checkpoint emptied": "killed, the newest checkpoint emptied",
    "checkpoint flipped": "killed, a bit of the newest checkpoint flipped",
    "second run refused": "a second run started in the same directory",
    "full disk": "out of disk (a small tmpfs), room made, started again",
}


def lines(directory: Path) -> list[str]:
    """A table a file."""
    found = []
    for path in sorted(directory.glob("faults*.json")):
        result = json.loads(path.read_text())
        environment, counts = result["environment"], result["counts"]
        found += [
            f"{sum(counts.values())} faults in {result['seconds']:.0f} s on {environment['device']}, commit "
            f"{environment['commit']}, seed {result['seed']}; after each the results were those of an "
            f"undisturbed run (`experiments/results/{path.name}`):",
            "",
            "| fault | times |",
            "| --- | --: |",
            *(f"| {_WORDS[name]} | {count} |" for name, count in counts.items()),
        ]
    found = found or ["No complete run of it has been recorded yet."]
    return [
        *found,
        "",
        f"The table of wrong requests has {count_cases(_BAD_INPUT)} cases (`tests/{_BAD_INPUT.name}`).",
    ]


def count_cases(path: Path) -> int:
    """How many rows the tables in capitals of a test file have, all in all; the file is not run."""
    tables = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    return sum(
        len(node.value.elts)
        for node in tables
        if isinstance(node.value, ast.List) and node.targets[0].id != "CASES"
    )
