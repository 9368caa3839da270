"""What only the environment of `make test-manifests` can do, as commands: Helm, Kubernetes' schemas, compose's specification.

formats.py render [VALUES.json]     the chart, rendered; what it is made of comes from values.yaml and that file
formats.py lint [VALUES.json]       what Helm's linter says, as JSON
formats.py refuses VALUES.json      why the values' schema refuses them; fails when it does not
formats.py kubernetes FILE          each document against the API's schemas; names the kinds that have none
formats.py compose FILE             a compose file, read as the specification has it
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[3]
CHART = PROJECT / "deploy/kubernetes/chart"
RELEASE, NAMESPACE = "jeton", "jeton"
KUBERNETES = "1.31"
# Of operators that bring their own definitions.
DEFINED_ELSEWHERE = {"ScaledObject", "ServiceMonitor"}
HEADER = "# Rendered from deploy/kubernetes/chart by `make manifests`: change that. For whoever has no Helm.\n"


def render(values: dict[str, Any]) -> str:
    from helm_python import Chart

    rendered = Chart.load(CHART).render(values, name=RELEASE, namespace=NAMESPACE)
    texts = [rendered[name] for name in sorted(rendered) if name.endswith(".yaml")]
    documents = [document.strip("\n") for text in texts for document in text.split("\n---\n")]
    return HEADER + "".join(
        f"---\n{document.removeprefix('---').strip()}\n" for document in documents if document.strip()
    )


def lint(values: dict[str, Any]) -> str:
    from helm_python import lint

    return json.dumps(lint(CHART, values, strict=True, namespace=NAMESPACE, kube_version=f"v{KUBERNETES}.0"))


def refuses(values: dict[str, Any]) -> str:
    from helm_python import Chart, HelmError

    try:
        Chart.load(CHART).validate_schema(values)
        render(values)
    except HelmError as error:
        return str(error)
    sys.exit("the chart takes these values")


def kubernetes(file: Path) -> str:
    import kubernetes_validate

    unknown = []
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        if document["kind"] in DEFINED_ELSEWHERE:
            unknown.append(document["kind"])
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    return " ".join(unknown)


def compose(file: Path) -> str:
    from compose_spec import PyCompose

    # Variables are filled in before: with their defaults, or with anything where they must be set.
    text = re.sub(
        r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda found: found[1] or "set", file.read_text(encoding="utf-8")
    )
    return str(PyCompose.from_yaml(text))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command in ("kubernetes", "compose"):
        print({"kubernetes": kubernetes, "compose": compose}[command](Path(arguments[0])))
    else:
        values = json.loads(Path(arguments[0]).read_text(encoding="utf-8")) if arguments else {}
        print({"render": render, "lint": lint, "refuses": refuses}[command](values), end="")
