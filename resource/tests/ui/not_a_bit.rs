#[resource::text_flags]
pub enum Switches {
    #[text(3)]
    Three,
}

fn main() {}
