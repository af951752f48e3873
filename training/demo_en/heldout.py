"""Free sentences that judge the model. They are read to it and measured, never trained on.

Written by hand, as people talk, without the grammar of ``rules.txt``; numbers as Whisper writes them.
"""

from __future__ import annotations

from . import lexicon
from .numerals import Chunk, spell

FREE = """
Thanks for joining on such short notice.
I left my keys in the kitchen again.
The new office has a nice view of the river.
Could you send me the slides after the meeting?
We talked about the weather for almost an hour.
My brother works for a small company in Boston.
The printer on the second floor is broken.
I don't remember where I parked the car.
Please close the window before you leave.
She has been learning to play the piano since last year.
The customer was not happy with the answer.
What time does your flight arrive tomorrow?
We should hire two more people for the support team.
He forgot to bring his passport to the airport.
The children are playing in the garden.
I would like to change the address on my account.
The old bridge will be closed for repairs this summer.
Nobody told me that the plan had changed.
Can you hear me better now?
There is a problem with the payment system.
My grandmother makes the best soup in the world.
Let's discuss the results at the end of the week.
The doctor said that I should drink more water.
It took them three months to finish the project.
Is this seat free?
The red box belongs to my sister.
We need a better way to measure the quality of our service.
I never drink coffee in the evening.
The bus was late because of the snow.
Maria will present the report on Thursday.
Your package should arrive within two days.
They sold their house and moved to the country.
I have no idea what you are talking about.
The second question was much harder than the first.
Turn off the lights when you go to bed.
Our sales in Germany went up again this month.
Do you know a good restaurant near the station?
The battery of my phone is almost empty.
He asked his teacher for help with the exercise.
I think we should wait until everyone is here.
The museum is closed on Monday.
She opened the door and looked outside.
We are still waiting for the final decision.
The soup is too hot to eat.
Have you ever been to Canada?
This machine can print ten pages per minute.
My colleague Peter will take over the project in April.
The water in the lake is cold but clear.
Why didn't you call me back yesterday?
I will explain the details in my next email.
The train stopped in the middle of nowhere.
You can leave your bags in the hotel.
He is afraid of dogs and loud noise.
The first version had several serious errors.
It would be great to see you again.
We bought bread, cheese and some apples.
The manager agreed to sign the contract.
I need a quiet place to work.
The street was full of people after the game.
Sorry, I was on the other line.
How long have you lived in this city?
The training starts at nine and ends at noon.
Everyone enjoyed the party except Thomas.
The cost of energy has doubled in five years.
""".strip().split("\n")


def free_sentences() -> list[list[Chunk]]:
    """Return the held-out sentences as (written, spoken) chunks."""
    return [[(word, word) for word in line.split()] for line in FREE]


def figure_sentences() -> list[list[Chunk]]:
    """Return sentences whose point is a number, a name or a day that the corpus never put there."""
    sentences = []
    for k, (name, day) in enumerate(zip(lexicon.FIRST_NAMES[3::9], lexicon.DAYS * 3, strict=False)):
        n = 11 + 7 * k % 89
        words = f"{name} paid {n} dollars for the ticket on {day}."
        chunks = [(w, w) for w in words.split()]
        chunks[2] = (str(n), spell(n))
        sentences.append(chunks)
    return sentences
