//! The room `upstream`, see `docs/design/rooms.md`.
