"""Networks and copies of networks that methods train beside a backbone."""
