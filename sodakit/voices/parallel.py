"""Household sentences in English, Spanish, German and French that say the same: speech to translate, with no download.

    opening     action        object      place             time
    Could you   turn on       the lamp    in the kitchen    today?
    ¿Podrías    encender      la lámpara  en la cocina      hoy?
    Könntest du heute         die Lampe   in der Küche      einschalten?

Openings are chosen so that the action is an infinitive in every language: only its place differs. Any other parallel
text is read by `read_parallel`.
"""

import random
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from sodakit.errors import ConfigError
from sodakit.files import read_json_lines

LANGUAGES = ("en", "es", "de", "fr")

_OPENINGS = (
    ("could you", "podrías", "könntest du", "pourrais-tu"),
    ("can you", "puedes", "kannst du", "peux-tu"),
    ("I want to", "quiero", "ich will", "je veux"),
    ("we must", "debemos", "wir müssen", "nous devons"),
    ("she should", "ella debería", "sie sollte", "elle devrait"),
    ("they will", "ellos van a", "sie werden", "ils vont"),
    ("nobody can", "nadie puede", "niemand kann", "personne ne peut"),
)
_ASKING = 2
"""How many of the openings ask."""

_ACTIONS_AND_OBJECTS = (
    (
        (
            ("turn on", "encender", "einschalten", "allumer"),
            ("turn off", "apagar", "ausschalten", "éteindre"),
            ("check", "revisar", "prüfen", "vérifier"),
            ("repair", "reparar", "reparieren", "réparer"),
        ),
        (
            ("the lamp", "la lámpara", "die Lampe", "la lampe"),
            ("the radio", "la radio", "das Radio", "la radio"),
            ("the heater", "la calefacción", "die Heizung", "le chauffage"),
            ("the fan", "el ventilador", "den Ventilator", "le ventilateur"),
            ("the oven", "el horno", "den Ofen", "le four"),
        ),
    ),
    (
        (
            ("open", "abrir", "öffnen", "ouvrir"),
            ("close", "cerrar", "schließen", "fermer"),
            ("lock", "cerrar con llave", "abschließen", "fermer à clé"),
            ("paint", "pintar", "streichen", "peindre"),
        ),
        (
            ("the door", "la puerta", "die Tür", "la porte"),
            ("the window", "la ventana", "das Fenster", "la fenêtre"),
            ("the gate", "el portón", "das Tor", "le portail"),
            ("the box", "la caja", "die Kiste", "la boîte"),
            ("the cupboard", "el armario", "den Schrank", "le placard"),
        ),
    ),
    (
        (
            ("find", "encontrar", "finden", "trouver"),
            ("wash", "lavar", "waschen", "laver"),
            ("hide", "esconder", "verstecken", "cacher"),
            ("count", "contar", "zählen", "compter"),
        ),
        (
            ("the cups", "las tazas", "die Tassen", "les tasses"),
            ("the towels", "las toallas", "die Handtücher", "les serviettes"),
            ("the shoes", "los zapatos", "die Schuhe", "les chaussures"),
            ("the spoons", "las cucharas", "die Löffel", "les cuillères"),
            ("the blankets", "las mantas", "die Decken", "les couvertures"),
        ),
    ),
)
_PLACES = (
    ("in the kitchen", "en la cocina", "in der Küche", "dans la cuisine"),
    ("in the bedroom", "en el dormitorio", "im Schlafzimmer", "dans la chambre"),
    ("in the garage", "en el garaje", "in der Garage", "dans le garage"),
    ("in the hall", "en el pasillo", "im Flur", "dans le couloir"),
    ("by the stairs", "junto a la escalera", "an der Treppe", "à côté de l'escalier"),
    ("near the garden", "cerca del jardín", "beim Garten", "près du jardin"),
    ("near the bathroom", "cerca del baño", "beim Bad", "près de la salle de bain"),
    ("on the balcony", "en el balcón", "auf dem Balkon", "sur le balcon"),
)
_TIMES = (
    ("today", "hoy", "heute", "aujourd'hui"),
    ("tonight", "esta noche", "heute Nacht", "cette nuit"),
    ("tomorrow", "mañana", "morgen", "demain"),
    ("at noon", "al mediodía", "mittags", "à midi"),
    ("this morning", "esta mañana", "heute Morgen", "ce matin"),
    ("this evening", "esta tarde", "heute Abend", "ce soir"),
    ("before lunch", "antes de comer", "vor dem Mittagessen", "avant le déjeuner"),
    ("after dinner", "después de cenar", "nach dem Abendessen", "après le dîner"),
    ("on Sunday", "el domingo", "am Sonntag", "dimanche"),
    ("on Friday", "el viernes", "am Freitag", "vendredi"),
)


@dataclass(frozen=True)
class ParallelText:
    """One sentence in several languages."""

    texts: dict[str, str]
    """By language code."""


@cache
def _places_in_tables() -> tuple[tuple[int, int, int, int, int, int], ...]:
    """Every sentence as numbers: opening, group, action, object, place, time."""
    groups = [(g, a, o) for g, (acts, things) in enumerate(_ACTIONS_AND_OBJECTS)
              for a, o in product(range(len(acts)), range(len(things)))]  # fmt: skip
    rest = product(range(len(_OPENINGS)), groups, range(len(_PLACES)), range(len(_TIMES)))
    return tuple((opening, *gao, place, time) for opening, gao, place, time in rest)


def parallel_sentences(count: int, seed: int) -> list[ParallelText]:
    """`count` different sentences in random order, in all `LANGUAGES`; the same for the same arguments.

    Raises:
        ConfigError: more are asked for than there are.
    """
    everything = _places_in_tables()
    if count > len(everything):
        raise ConfigError(f"count={count} parallel sentences; there are {len(everything)}. Ask for fewer.")
    drawn = random.Random(seed).sample(everything, count)
    return [
        ParallelText({language: _sentence(places, language) for language in LANGUAGES}) for places in drawn
    ]


def _sentence(places: tuple[int, int, int, int, int, int], language: str) -> str:
    n = LANGUAGES.index(language)
    opening, group, action, thing, place, time = places
    actions, things = _ACTIONS_AND_OBJECTS[group]
    verb, noun, where, when = actions[action][n], things[thing][n], _PLACES[place][n], _TIMES[time][n]
    # German: the time early, the infinitive last.
    middle = [when, noun, where, verb] if language == "de" else [verb, noun, where, when]
    sentence = " ".join([_OPENINGS[opening][n], *middle])
    sentence = sentence[0].upper() + sentence[1:]
    asks = opening < _ASKING
    return ("¿" if asks and language == "es" else "") + sentence + ("?" if asks else ".")


def read_parallel(path: Path | str) -> list[ParallelText]:
    """Parallel text: JSON lines with a text under each language code (`{"id": 1, "en": …, "ja": …}`), plain or gzip.

    Raises:
        ConfigError: no such file, or a line without two languages.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist. Needed: JSON lines with a text under each language code.")
    found = []
    for number, row in enumerate(read_json_lines(path, ours=False), start=1):
        texts = {k: v for k, v in row.items() if k != "id" and isinstance(v, str) and v.strip()}
        if len(texts) < 2:
            raise ConfigError(f"{path}, row {number}: {', '.join(texts) or 'no'} language; needed: two.")
        found.append(ParallelText(texts))
    return found
