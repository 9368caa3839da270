"""The words that the emulated model knows, by their part in a sentence. Data alone."""


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _list(
    """
    answer batch block budget cache chunk cluster cost day decode engine edge first floor fleet gap graph hand hour
    job key language latency layer limit line load machine memory minute model network node number order page part
    path place plan pool price process prompt queue question rate reader reason record region replica request result
    root router rule sample second sentence server share signal stage step stream system table task test thing time
    token total trace unit user value view watt week weight window word work worker year
    """
)
VERBS = _list(
    """
    adds answers asks batches begins brings carries changes charges checks closes costs counts covers decides
    divides ends fails fills finds follows gives grows holds keeps leaves learns lets limits lowers makes measures
    meets misses moves needs opens pays plans prices reads records reaches rests returns routes runs saves sees
    sends serves shares shows shifts splits starts stays stops takes tests tells turns uses waits wants watches
    weighs writes
    """
)
ADJECTIVES = _list(
    """
    able busy careful cheap clear close cold common cool deep early easy empty equal even exact fair fast final fine
    first free full good great half hard heavy high idle just large last late light little local long low main mean
    narrow near new next old open plain quick quiet rare real rich right round safe same shared sharp short simple
    single slow small spare steady strong sure thin true warm wide whole
    """
)
ADVERBS = _list(
    """
    again almost already always early even exactly fairly fast first here just largely late mostly now often once
    only rarely slowly soon still then there today together twice usually well
    """
)
DETERMINERS = _list(
    """
    a the this that each every one no some any our its another
    """
)
PREPOSITIONS = _list(
    """
    about above across after against along at before behind below beside between by for from in into near of on over
    through to under until with within without
    """
)
CONNECTIVES = _list(
    """
    and but so because while when since although if unless
    """
)
FUNCTION_WORDS = _list(
    """
    I you he she it we they me him her us them my your his their what which who whom whose where why how is are was
    were be been being am do does did done have has had having will would can could should may might must shall not
    as than or nor yes all both few many much more most other such very too also please write explain describe list
    give make tell me code function class return import def print true false null hello world name text data string
    number file user assistant system tool call quick brown fox jumps lazy dog get weather city city's it's don't
    can't I'm
    """
)
