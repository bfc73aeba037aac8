"""Prints what is installed beside this interpreter as a CycloneDX 1.6 document, for an image's SBOM."""

import json
import sys
from importlib.metadata import Distribution, distributions


def component(package: Distribution) -> dict[str, object]:
    """One library as CycloneDX describes it."""
    name, version = package.metadata["Name"], package.version
    terms = package.metadata["License-Expression"]
    told = {"licenses": [{"expression": terms}]} if terms else {}
    return {"type": "library", "bom-ref": f"{name}@{version}", "name": name, "version": version, "purl": purl(name, version), **told}


def purl(name: str, version: str) -> str:
    """The package URL: names are lower case with dashes there."""
    return f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"


def document(packages: list[Distribution]) -> dict[str, object]:
    """The whole document, in a stable order and without a time: an image built again has the same."""
    ordered = sorted(packages, key=lambda package: package.metadata["Name"].lower())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "platform", "name": "python", "version": sys.version.split()[0]}},
        "components": [component(package) for package in ordered],
    }


if __name__ == "__main__":
    json.dump(document(list(distributions())), sys.stdout, indent=2)
