//! What moves: export, artifact store, settings, plan, apply, prune, health.
