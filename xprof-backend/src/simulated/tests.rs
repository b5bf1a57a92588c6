use super::*;

#[test]
fn options_are_read_and_mistakes_named() {
    let read = |text: &str| text.parse::<Simulated>();
    assert_eq!(read(""), Ok(Simulated::default()));
    let made = read("seed=7,seconds=0.5,cpus=4,scope=local,skid=20,pace=1").unwrap();
    assert_eq!((made.seed, made.duration, made.cpus, made.skid), (7, 500_000_000, 4, 20));
    assert_eq!((made.scope, made.pace), (Scope::Local, 1.0));
    for bad in ["seed", "seed=x", "cpus=0", "cpus=65", "seconds=0", "seconds=-1", "seconds=nan", "scope=x", "what=1"] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let error = read("family=z80").unwrap_err();
    assert!(error.contains("perfmon-v2"), "{error}");
}
