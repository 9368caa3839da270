"""What requests look like when nothing better is known: the mix that standard prices and unknown work are reckoned with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mix:
    """Mean language tokens of a request."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def context_tokens(self) -> float:
        """Mean context of a sequence while it decodes: its prompt, and half of its completion."""
        return self.prompt_tokens + self.completion_tokens / 2


# Means of the 19,366 requests of Azure's conversation trace of 2023-11-16 (Azure/AzurePublicDataset, CC-BY-4.0; Patel et al.,
# Splitwise, ISCA 2024): 1,154.7 and 211.1. ServeGen's m-large day is near it: 1,412.8 and 214.5.
CHAT = Mix(prompt_tokens=1155, completion_tokens=211)
