"""What the recordings say: sentences and a conversation, written by hand and kept out of the corpus.

They are neither the training corpus nor the sentences of ``heldout``, by which training was watched. Where
a word is written otherwise than it is spoken, it stands as ``written=spoken_words``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .numerals import Chunk


class NotHeldOut(ValueError):
    """The script and the training corpus share too much; the message says what."""


SHARE_SEEN_MAX = 0.05
"""Share of the script's runs of four words that may stand in the corpus too."""
_RUN = 4

SENTENCES = """
The lawyer wants to read the contract before we sign anything.
My neighbor's dog barked at the postman all morning.
Could somebody please turn down the heating in this room?
We counted 48=forty_eight chairs, but only 30=thirty guests turned up.
Her flight from Madrid lands at 6:45=six_forty_five tomorrow evening.
If the rain stops soon, we can still walk to the beach.
Daniel ordered two coffees, a sandwich and a slice of cake.
Why did the computer restart in the middle of my presentation?
The new library opens its doors on the 3rd=third of October.
Your refund of $75=seventy_five_dollars was sent to the bank this morning.
I lost the receipt, so they would not exchange my shoes.
The students measured the temperature of the sea every hour.
Sophie asked whether the invoice had already been paid.
Almost 20%=twenty_percent of our visitors come from Japan.
Nobody noticed that the clock on the wall had stopped.
Take the second street on the left, then cross the park.
The band played so loudly that we could hardly talk.
Karen keeps the spare key under a stone near the gate.
The farmer sold 600=six_hundred boxes of tomatoes last week.
Have you checked whether the elevator is working again?
""".strip().split("\n")

CONVERSATION = """
anna: Good afternoon, and welcome to our weekly call.
anna: Before we begin, has everyone received the notes from Friday?
ben: Yes, I read them on the train this morning.
clara: Mine never arrived, but Ben showed me his copy.
anna: All right. David, could you tell us how the move to the new warehouse is going?
david: Sure. We have packed about two thirds of the shelves.
david: The trucks are booked for the 12th=twelfth of June.
ben: Will there be enough space for the winter stock?
david: I believe so. The hall is nearly twice as big as the old one.
clara: What worries me is the roof. It was leaking last spring.
david: That was repaired in April. I went there with the landlord and looked at it myself.
clara: Good, then I can sleep again.
anna: Let's talk about the customers. Clara, you wanted to say something about the complaints?
clara: We had 41=forty_one of them this month, which is far too many.
clara: Most people simply waited too long for an answer.
ben: My team lost two colleagues in March. We are short of hands.
anna: How soon can you find somebody?
ben: I have interviews on Wednesday. One candidate speaks Spanish and Portuguese.
anna: That sounds promising. Please keep me informed.
david: May I suggest something? Drivers could phone the customers themselves when they are late.
clara: I like that idea. It costs nothing, and it is polite.
ben: They would need a list with the telephone numbers.
david: Our planner can print one every morning.
anna: Then let us try it for three weeks and see what happens.
anna: Is there anything else?
clara: Only a small thing. The coffee machine upstairs is broken once more.
ben: I already called the technician. He promised to come before lunch.
david: Wonderful. A day without coffee is a sad day.
anna: Thank you all. We meet again next Monday at 2:30=two_thirty.
clara: Goodbye, everybody!
""".strip().split("\n")

DEMONSTRATION = """
espeak-ng gmw/en-GB-x-rp+f5: Michael, can you move the project with the legal team?
espeak-ng gmw/en-GB-scotland+f2: Emma will check the backup on Thursday.
flite rms: We need to check the password before Tuesday.
flite rms: What do you think about the new proposal, David?
espeak-ng gmw/en-US+f3: Sarah will finish the meeting on Monday.
flite awb: The legal and research teams should meet on Sunday.
flite rms: Yes, Robert will do it on Wednesday.
flite rms: Who is going to open the office?
espeak-ng gmw/en-GB-scotland+m7: The backup was late because the budget was not ready.
festival cmu_us_slt_arctic_hts: The finance department wants to explain every survey.
festival kal_diphone: Next Tuesday we will start the important release.
festival ked_diphone: Could you please open the big deadline?
""".strip().split("\n")
"""What a newcomer sees first: easy sentences, of kinds that the corpus has too, so they judge nothing."""


def sentences() -> list[list[Chunk]]:
    """Return the sentences as (written, spoken) chunks."""
    return [chunks(line) for line in SENTENCES]


def conversation() -> list[tuple[str, list[Chunk]]]:
    """Return (speaker, chunks) for each utterance; a speaker may have several in a row."""
    return _spoken(CONVERSATION)


def demonstration() -> list[tuple[str, list[Chunk]]]:
    """Return (voice, chunks) for each sentence of the demonstration."""
    return _spoken(DEMONSTRATION)


def chunks(line: str) -> list[Chunk]:
    """Return the (written, spoken) chunks of a line; punctuation behind a figure is spoken with it."""
    return [_chunk(word) for word in line.split()]


def written(said: list[Chunk]) -> str:
    """Return the text as a reader sees it."""
    return " ".join(word for word, _ in said)


def _spoken(lines: list[str]) -> list[tuple[str, list[Chunk]]]:
    parts = (line.partition(": ") for line in lines)
    return [(speaker, chunks(said)) for speaker, _, said in parts]


def _chunk(word: str) -> Chunk:
    figure, _, spoken = word.partition("=")
    if not spoken:
        return word, word
    bare = spoken.rstrip(".,?!")
    return figure + spoken[len(bare) :], spoken.replace("_", " ")


def share_seen(said: Iterable[str], corpus: Iterable[str]) -> tuple[float, set[str]]:
    """Compare texts with a corpus.

    Returns:
        The share of the texts' runs of four words that stand in the corpus, and the texts that stand in it
        as a whole; case and punctuation are ignored.
    """
    known: set[tuple[str, ...]] = set()
    whole: set[tuple[str, ...]] = set()
    for sentence in corpus:
        words = _words(sentence)
        whole.add(words)
        known.update(_runs(words))
    texts = list(said)
    runs = [run for text in texts for run in _runs(_words(text))]
    return sum(run in known for run in runs) / max(len(runs), 1), {t for t in texts if _words(t) in whole}


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.sub(r"[^a-z0-9' ]", "", text.lower()).split())


def _runs(words: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [words[k : k + _RUN] for k in range(len(words) - _RUN + 1)]
