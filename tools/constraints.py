"""Write constraints.txt: the exact version of everything that eitherway and its extras bring, as installed here.

Run it with the python of an environment that has all extras and whose tests pass: `python tools/constraints.py`.
Local labels are cut off (`2.13.0+cpu` becomes `2.13.0`): other machines cannot find them, and pip lets the plain
version match a labelled one.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
# The exact versions the tests passed with: pip install -e ".[test]" -c constraints.txt
# Written by tools/constraints.py; lower bounds stand in pyproject.toml. No local labels (+cpu), no index addresses.
"""


def closure(wanted: list[Requirement], name: str) -> dict[str, str]:
    """Name to version of every requirement and of what each requires in turn, `name` itself left out."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for extra in ("", *requirement.extras):
            if key == name or (key, extra) in seen:
                continue
            seen.add((key, extra))
            try:
                installed = distribution(key)
            except PackageNotFoundError:
                raise SystemExit(f"{key} is not installed here; constraints.txt needs all extras") from None
            found[key] = installed.version.split("+")[0]
            for text in installed.requires or ():
                child = Requirement(text)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    wanted.append(child)
    return found


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    found = closure([Requirement(text) for text in texts], project["name"])
    lines = [f"{name}=={version}\n" for name, version in sorted(found.items())]
    (ROOT / "constraints.txt").write_text(HEAD + "".join(lines))
    print(f"constraints.txt: {len(lines)} versions")


if __name__ == "__main__":
    main()
