"""An able backend with all that is known of it until the next configuration, and what a request would meet there."""

from dataclasses import dataclass

from router.domain.decision import Quote
from router.domain.fleet import Backend, Load, Scrape
from router.domain.request import InferenceRequest
from router.pricing.drift import Drift
from router.pricing.price import MeteredPrice
from router.pricing.quote import Lease, metered_quote
from router.pricing.worst_case import leased_worst_case, metered_worst_case
from router.selection.extent import extent

# A metered provider tells nothing of its load, so one forecast serves for all. Measured on the 1,593 requests of the Claude
# Code agent trace (callanjfox/kv-cache-tester, Apache-2.0) that have the API's own times: a Theil–Sen line through the time
# to the first token over the prompt's length, and the median time per token after it.
METERED_TTFT_SECONDS = 1.8
METERED_TTFT_SECONDS_PER_TOKEN = 5.8e-6
METERED_TPOT_SECONDS = 0.017


@dataclass(frozen=True, slots=True)
class Site:
    """level: the tier's place, 0 for the weakest. price: a lease with its engine's profile, or the price of tokens."""

    backend: Backend
    level: int
    price: Lease | MeteredPrice

    def appraise(
        self,
        load: Load,
        scrape: Scrape | None,
        prompt_tokens: int,
        completion_tokens: float,
        audio_seconds: float,
        drift: Drift | None = None,
    ) -> tuple[float, float, Quote]:
        """Forecast TTFT, the network included, and TPOT, in seconds, and the quote. drift: the replica's from its profile."""
        price, rtt_seconds = self.price, self.backend.pool.rtt_seconds
        if isinstance(price, Lease):
            ttft_seconds, tpot_seconds, quote = price.appraise(
                load, scrape, prompt_tokens, completion_tokens, drift=drift
            )
            return rtt_seconds + ttft_seconds, tpot_seconds, quote
        ttft_seconds = rtt_seconds + METERED_TTFT_SECONDS + METERED_TTFT_SECONDS_PER_TOKEN * prompt_tokens
        quote = metered_quote(price, prompt_tokens, completion_tokens, audio_seconds=audio_seconds)
        return ttft_seconds, METERED_TPOT_SECONDS, quote

    def worst_case(self, request: InferenceRequest) -> int:
        """The most that an attempt here can cost, nano-dollars."""
        most = extent(request, self.backend)
        if isinstance(self.price, Lease):
            rtt_seconds = self.backend.pool.rtt_seconds
            return leased_worst_case(self.price, most.prompt_tokens, most.completion_tokens, rtt_seconds)
        return metered_worst_case(self.price, most.prompt_tokens, most.completion_tokens, most.audio_seconds)
