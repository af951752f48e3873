"""Word lists written by hand: names, places, calendar words and the function words of English."""

from __future__ import annotations

FIRST_NAMES = """
Maria Anna Thomas Peter Laura James Mary Robert Linda Michael David Susan John Karen William Lisa Richard
Nancy Joseph Betty Charles Helen Daniel Sandra Matthew Donna Anthony Carol Mark Ruth Paul Sharon Steven
Michelle Andrew Emily Kenneth Amanda George Melissa Joshua Deborah Kevin Stephanie Brian Rebecca Edward
Sarah Ronald Olivia Timothy Sophia Jason Julia Jeffrey Rachel Ryan Emma Jacob Victoria Nicholas Grace
Eric Hannah Jonathan Alice Stephen Diana Larry Clara Justin Martha Scott Nora Brandon Irene Benjamin Amy
Samuel Elena Frank Kate Gregory Lucy Raymond Jane Patrick Ellen Alexander Rose Jack Claire Dennis Sophie
Jerry Nina Oliver Eva Adam Marta Henry Carla Simon Monica Martin Teresa Lucas Paula Victor Sonia Oscar
Vera Leo Fiona Max Priya Omar Aisha Ahmed Fatima Carlos Ingrid Diego Yuki Ben Tom Sam Dan Joe Bob
""".split()
SURNAMES = """
Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Taylor Moore Jackson Martin Thompson White
Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Baker Nelson Carter
Mitchell Roberts Turner Phillips Campbell Parker Evans Edwards Collins Stewart Morris Murphy Cook Rogers
Morgan Cooper Peterson Reed Bailey Bell Kelly Howard Ward Cox Richardson Wood Watson Brooks Bennett Gray
Hughes Price Myers Foster Sanders Ross Powell Sullivan Russell Fisher Henderson Graham Wallace
Cole West Jordan Reynolds Hamilton Ford Patel Garcia Lopez Chen Schmidt Larsen Novak Rossi
""".split()
PLACES = """
London Paris Berlin Madrid Rome Vienna Boston Chicago Denver Dallas Houston Seattle Portland Toronto
Montreal Sydney Melbourne Dublin Edinburgh Glasgow Manchester Liverpool Oxford Cambridge Bristol
Amsterdam Brussels Munich Hamburg Zurich Geneva Milan Lisbon Barcelona Athens Oslo Stockholm Helsinki
Copenhagen Warsaw Prague Budapest Moscow Tokyo Beijing Shanghai Singapore Delhi Mumbai Cairo Nairobi
America Canada Mexico Brazil Argentina England Scotland Ireland Wales France Germany Spain Italy Austria
Switzerland Poland Norway Sweden Finland Denmark Greece Turkey Russia China Japan India Korea Australia
Africa Europe Asia Texas California Florida Virginia Ohio Michigan Georgia Washington Arizona Colorado
""".split()
PEOPLES = """
American English British French German Spanish Italian Chinese Japanese Indian Russian Canadian Irish
Scottish Dutch Swedish Greek Turkish Mexican Australian African European Christian
""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """
January February March April May June July August September October November December
""".split()
ACRONYMS = {
    "TV": "T V", "PC": "P C", "HR": "H R", "IT": "I T", "UK": "U K", "US": "U S", "CEO": "C E O", "ID": "I D",
    "PDF": "P D F", "USB": "U S B", "VIP": "V I P", "FAQ": "F A Q", "EU": "E U", "DNA": "D N A",
}  # fmt: skip

FUNCTION_WORDS = """
a about above across after again against all almost along already also although always am among an and another
any anybody anyone anything anyway anywhere are around as at away back be because been before behind being
below beside between beyond both but by can cannot could did do does done down during each either else enough
even ever every everybody everyone everything everywhere few for from further had has have having he her here
hers herself him himself his how however i if in indeed inside instead into is it its itself just least less
let like lot many may maybe me might mine more most much must my myself near neither never next no nobody none
nor not nothing now nowhere of off often oh okay on once one only onto or other others otherwise ought our
ours
ourselves out outside over own past perhaps please quite rather really same several shall she should since so
some somebody someone something sometimes somewhere soon still such than thanks that the their theirs them
themselves then there therefore these they this those though through till to today together tomorrow tonight
too toward towards two under unless until up upon us very was we well were what whatever when whenever where
wherever whether which while who whoever whole whom whose why will with within without would yes yesterday yet
you your yours yourself hello hi hey sorry welcome goodbye bye sure right
three four five six seven eight nine ten first second third
i'm you're he's she's it's we're they're i've you've we've they've i'll you'll he'll she'll it'll we'll
they'll
i'd you'd he'd she'd we'd they'd isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't won't
wouldn't can't couldn't shouldn't let's that's what's there's here's who's where's how's
""".split()

# Frequent in the lists, but nothing a demonstration should say.
NOT_SPOKEN = frozenset(
    """
    fuck fucking fucked fucks fucker shit shitty bullshit bitch bitches bastard bastards ass asshole assholes
    dick dicks cock pussy cunt whore slut tits boobs porn nude naked sex sexy sexual sexually rape raped nigga
    niggas nigger fag faggot damn goddamn crap piss pissed penis vagina nazi nazis hitler dumb idiot idiots
    kill killed killing kills killer murder murdered suicide cum anal gay retarded holocaust terrorist
    """.split()
)
