//! Guests for the tests of Gantry. They are the examples of this package; there is nothing here.
