"""What the documents tell a reader to type, and where they send him, is there."""

import re
import shlex
from pathlib import Path

import pytest

from itae_jax import arguments
from itae_jax.runs import variants

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXPERIMENTS = sorted((ROOT / "experiments").glob("[dft][ia][gb]*.py"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(page):
    """The commands of code blocks and docstrings as words, without comments and where the program lies."""
    text = page.read_text(encoding="utf-8")
    blocks = r'^"""(.*?)"""' if page.suffix == ".py" else r"^```\n(.*?)^```"
    for block in re.findall(blocks, text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix(".venv/bin/")
            if line.startswith(("itae ", "make ", "python ")):
                yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", [*PAGES, *EXPERIMENTS], ids=lambda page: page.name)
def test_commands_can_be_given_as_they_stand(page):
    for program, *words in commands(page):
        if program == "make":
            targets = [word for word in words if "=" not in word]
            assert targets and TARGETS.issuperset(targets), words
        elif program == "python":
            assert (ROOT / words[0]).is_file(), words
        elif program == "itae":
            asked = arguments.build().parse_args(words)
            if asked.call == "run" and asked.experiment.parts[0] == "experiments":
                experiments = variants.load(ROOT / asked.experiment, asked.set, asked.variants)
                assert experiments, words


def test_commands_are_found_where_they_stand():
    found = {page.name: list(commands(page)) for page in [*PAGES, *EXPERIMENTS]}
    assert {"README.md", "paper.md", "quickstart.md", "table4_transforms.py"} <= found.keys()
    for name in ("README.md", "paper.md", "quickstart.md", *(path.name for path in EXPERIMENTS)):
        assert found[name] or name == "digits_transforms.py", name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file) if file else page
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, target
