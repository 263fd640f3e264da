#[resource::text_enum]
pub enum Color {
    #[text(0)]
    Red,
    #[text(1, "red")]
    Rot,
}

fn main() {}
