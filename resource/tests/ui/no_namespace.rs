#[resource::resource(type = "Widgets.test.example.org")]
pub struct Widget {}

fn main() {}
