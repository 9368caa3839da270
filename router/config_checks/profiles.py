"""Engine profiles can be built, and every leased backend has one, by which its hours are shared out."""

from collections.abc import Iterator

from router.config.profiles import ProfileConfig
from router.config_checks.reading import Reading
from router.config_shape import nearest_name
from router.config_source import Finding
from router.domain.fleet import Billing
from router.fleet_config import build_profile
from router.profiles import shipped


def check_profiles(reading: Reading) -> Iterator[Finding]:
    for name, profile in reading.config.profiles.items():
        try:
            build_profile(profile)
        except LookupError as error:
            what, _, remedy = str(error.args[0]).partition("; ")
            remedy = remedy or "spell out its figures (parameters_billion, layers, …)"
            yield reading.source.finding(("profiles", name), f"the profile `{name}`: {what}", remedy, at_member=True)
        except ValueError as error:
            remedy = "check quantization, gpu and gpus (of one replica)"
            if isinstance(profile, ProfileConfig):
                remedy = (
                    "check parameters_billion, weight_bytes_per_parameter and memory_gb"
                    " (of all GPUs of a replica together)"
                )
            yield reading.source.finding(("profiles", name), f"the profile `{name}`: {error}", remedy, at_member=True)
    own = reading.config.profiles
    for place, pool, backend in reading.backends():
        if backend.profile is not None and backend.profile not in own:
            measured = shipped().deployments
            if backend.profile not in measured:
                remedy = nearest_name(backend.profile, (*own, *measured))
                if remedy.startswith("there is"):  # not all that come with jeton: they are many
                    remedy = f"{nearest_name('', own)}, and `jeton profile list` tells those that come with jeton"
                what = f"there is no profile named `{backend.profile}`"
                yield reading.source.finding((*place, "profile"), what, remedy)
        elif backend.profile is None and pool.billing is Billing.LEASED:
            what = (
                f"the leased backend `{backend.name}` has no profile, by which its hours are shared out among requests"
            )
            remedy = "add `profile: …` with " + nearest_name("", own).removeprefix("there is ")
            yield reading.source.finding(place, what, remedy)


def useless_profiles(reading: Reading) -> Iterator[Finding]:
    used = {backend.profile for _, pool, backend in reading.backends() if pool.billing is Billing.LEASED}
    for name in reading.config.profiles:
        if name not in used:
            what = f"no leased backend uses the profile `{name}`"
            yield reading.source.finding(("profiles", name), what, "remove it, or name it in a backend", at_member=True)
