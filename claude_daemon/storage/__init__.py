"""Tables, migrations and the one writer; the only package that knows SQLAlchemy."""
