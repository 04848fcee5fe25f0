"""The ``user_properties`` by which a test's report carries what its gates concluded.

To every reporter, and to xdist's controller. Only JSON builtins: anything else makes xdist lose
the whole result.
"""

VERDICT_PROPERTY = "drlcompress_verdict"
ARTIFACT_PROPERTY = "drlcompress_artifact"
"""The fingerprint of a judged artifact."""

AS_RECORDED_PROPERTY = "drlcompress_as_recorded"
"""The verdict is no PASS, as the baseline's record expects."""

IMPROVED_PROPERTY = "drlcompress_improved"
"""What is better than recorded, as text."""

FILM_PROPERTY = "drlcompress_film"
"""Pictures of baseline and candidate at one seed, for the HTML report."""

NOTE_PROPERTY = "drlcompress_note"
