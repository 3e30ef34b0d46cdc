window.YTD.tweets.part2 = [
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "1763492119311286273"
          ],
          "editableUntil": "2024-01-01T00:00:00.000Z",
          "editsRemaining": "5",
          "isEditEligible": true
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://x.example\">Web</a>",
      "entities": {
        "hashtags": [],
        "symbols": [],
        "user_mentions": [
          {
            "name": "Kim",
            "screen_name": "kim",
            "indices": [
              "0",
              "4"
            ],
            "id_str": "6001",
            "id": "6001"
          }
        ],
        "urls": []
      },
      "display_text_range": [
        "0",
        "22"
      ],
      "favorite_count": "0",
      "id_str": "1763492119311286273",
      "truncated": false,
      "retweet_count": "0",
      "id": "1763492119311286273",
      "created_at": "Fri Mar 01 09:11:00 +0000 2024",
      "favorited": false,
      "full_text": "@kim and it left today",
      "lang": "en",
      "in_reply_to_user_id": "5000",
      "in_reply_to_user_id_str": "5000",
      "in_reply_to_screen_name": "acme",
      "in_reply_to_status_id": "1763491867653046273",
      "in_reply_to_status_id_str": "1763491867653046273"
    }
  },
  {
    "tweet": {
      "edit_info": {
        "initial": {
          "editTweetIds": [
            "1763491867653046273"
          ],
          "editableUntil": "2024-01-01T00:00:00.000Z",
          "editsRemaining": "5",
          "isEditEligible": true
        }
      },
      "retweeted": false,
      "source": "<a href=\"https://x.example\">Web</a>",
      "entities": {
        "hashtags": [],
        "symbols": [],
        "user_mentions": [
          {
            "name": "Kim",
            "screen_name": "kim",
            "indices": [
              "0",
              "4"
            ],
            "id_str": "6001",
            "id": "6001"
          }
        ],
        "urls": []
      },
      "display_text_range": [
        "0",
        "23"
      ],
      "favorite_count": "2",
      "id_str": "1763491867653046273",
      "truncated": false,
      "retweet_count": "0",
      "id": "1763491867653046273",
      "created_at": "Fri Mar 01 09:10:00 +0000 2024",
      "favorited": false,
      "full_text": "@kim We are on it &lt;3",
      "lang": "en",
      "in_reply_to_user_id": "6001",
      "in_reply_to_user_id_str": "6001",
      "in_reply_to_screen_name": "kim",
      "in_reply_to_status_id": "1763489351070646273",
      "in_reply_to_status_id_str": "1763489351070646273"
    }
  }
]
