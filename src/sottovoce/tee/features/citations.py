"""Citations: which messages a generated line rests on.

By overlap, since no entailment model comes in a package: each word that matters must stand in a message, in this form or another of the same beginning.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sottovoce.tee.features.messages import Message
from sottovoce.tee.features.text import content_words, numbers

__all__ = ["COMMON", "MOST", "covering", "said_in"]

MOST: Final = 6
"""Messages that a line may rest on."""
_ALIKE: Final = 5
"""Letters that the forms of one word have in common."""
COMMON: Final = content_words(
    "am pm uhr discuss discusses discussing discussion talks talking speaks plans planning planned organises organizes organizing arranges arranging decides deciding agrees agreed "
    "asks asking needs wants schedules scheduling schedule details updates update changes change getting working preparing prepares upcoming options issues topics including includes shares sharing various different several "
    "ob wegen geht diskutiert bespricht besprechen spricht redet plant planen organisiert entscheidet vereinbart klart themen details verschiedene anderungen "
    "se ont leur leurs discute discutent parle parlent organise organisent planifie prevoit decide sujets details divers plusieurs changements "
    "sobre como organizar prepara necesidad estado discutia discutio discutiendo habla hablando organiza organizando planea planeando planifica acuerda temas detalles cambios varios varias "
    "discutindo conversa conversando fala falando planeja planejando organizando combina combinando detalhes mudancas varias esta "
    "parla discutono organizza pianifica decidono dettagli bespreekt praat plant organiseert regelt details"
)
"""Words for what any group does with any matter: they claim nothing that a message would have to say."""


def said_in(word: str, stems: Iterable[str]) -> bool:
    """Whether one of `stems` is `word`, a stem, or another form of it."""
    return any(word == stem or (len(word) >= _ALIKE and word[:_ALIKE] == stem[:_ALIKE]) for stem in stems)


def covering(line: str, messages: Sequence[Message]) -> list[str]:
    """The ids of the messages that together say every word that matters in `line`, in order; empty where they do not, where it takes more than `MOST`, or where no word matters."""
    wanted, counted = content_words(line) - COMMON, numbers(line)
    told = [
        (
            {word for word in wanted if said_in(word, content_words(message.text))},
            numbers(message.text) & counted,
        )
        for message in messages
    ]
    chosen: set[int] = set()
    while wanted and len(chosen) < MOST:
        # Of two that say as much, the one with the numbers; of these the first.
        at = max(
            range(len(told)), key=lambda at: (len(told[at][0] & wanted), len(told[at][1]), -at), default=0
        )
        if not told or not told[at][0] & wanted:
            return []
        chosen.add(at)
        wanted -= told[at][0]
    return [] if wanted else [messages[at].id for at in sorted(chosen)]
