"""A policy that a file names, with its parameters: loaded, or what is wrong with it by file, line and remedy.

Whatever file that is: router.yaml, a scenario of the load laboratory. What a policy needs of a fleet is not known here.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from router.config_shape import misplaced_booleans, shape_mistakes
from router.config_source import Finding, Place, Source
from router.domain.decision import Policy
from router.selection.loader import load_policy, policy_class


def policy_at(
    source: Source, place: Place, name: str, parameters: Mapping[str, Any], mistakes: list[Finding]
) -> Policy | None:
    """The policy that stands at `place`, or None where it cannot be made. What is wrong is added to the mistakes: also a boolean
    for a number, which pydantic makes a policy of."""
    try:
        policy = load_policy(name, parameters)
        mistakes += misplaced_booleans(source, policy_class(name), (*place, "parameters"))
    except ValidationError as error:
        mistakes += shape_mistakes(source, policy_class(name), error, (*place, "parameters"))
        return None
    except LookupError as error:
        what, _, remedy = str(error.args[0]).partition("; ")
        mistakes.append(source.finding((*place, "name"), what, remedy))
        return None
    except Exception as error:  # a policy of the user's own may fail in any way when it is imported
        what = f"the policy `{name}` cannot be loaded: {type(error).__name__}: {error}"
        mistakes.append(source.finding((*place, "name"), what, "correct its file"))
        return None
    return policy
