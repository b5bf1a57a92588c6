//! `perf_event_open`: the fallback ladder, rings, workers.
