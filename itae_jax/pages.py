"""HTML pages from the templates of this package; every text that is put in is escaped."""


def render(template: str, **values) -> str:
    """The page of a template; a value that it names and is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("itae_jax"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
