"""The process that joins the rooms and keeps them alive."""
