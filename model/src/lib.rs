//! What a thing is: every resource kind and configuration document. Pure, no IO.
