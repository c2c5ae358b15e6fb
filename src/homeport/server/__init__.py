"""The sync server: PostgreSQL behind stateless nodes. Needs the extra ``homeport[server]``."""
