"""The figures of docs/definitions: small traces, analysed by the product and drawn from what it answers (``figures.FIGURES``)."""
